import { alignColumns } from '@stickbreaking/base';
import type { LengthResult } from './scoring.js';

const columns: [string, (result: LengthResult) => string][] = [
  ['length', ({ length }) => `${length}`],
  ['nll/token', ({ nll }) => nll.toFixed(4)],
  ['perplexity', ({ perplexity }) => perplexity.toFixed(2)],
  [
    'word ppl',
    ({ wordPerplexity }) => (wordPerplexity < 1e5 ? wordPerplexity.toFixed(2) : wordPerplexity.toExponential(2)),
  ],
  ['bits/byte', ({ bitsPerByte }) => bitsPerByte.toFixed(4)],
  ['tokens', ({ tokens }) => `${tokens}`],
  ['seconds', ({ seconds }) => seconds.toFixed(1)],
];

/** The results as an aligned table, one line a length. */
export function formatTable(results: readonly LengthResult[]): string {
  return alignColumns([
    columns.map(([name]) => name),
    ...results.map((result) => columns.map(([, show]) => show(result))),
  ]);
}
