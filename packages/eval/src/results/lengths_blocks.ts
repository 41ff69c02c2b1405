/** The report of perplexity by length: figures 5 and 8 of https://arxiv.org/abs/2410.17980. */
import type { ReportBlock } from '../report/report.js';
import type { LengthResult } from '../scoring.js';

/** @param facts about the evaluation, said first */
export function lengthsBlocks(
  results: readonly LengthResult[],
  facts: readonly (readonly [name: string, value: string])[],
): ReportBlock[] {
  const protocols = [...new Set(results.map(({ protocol }) => protocol))];
  const curves = protocols.map((protocol) => ({
    name: protocol,
    points: results.filter((one) => one.protocol === protocol).map(({ length, nll }) => ({ x: length, y: nll })),
  }));
  const blocks: ReportBlock[] = [{ kind: 'facts', facts }];
  if (curves.some(({ points }) => points.length > 1)) {
    blocks.push(
      { kind: 'heading', text: 'Loss by context length' },
      {
        kind: 'curves',
        name: 'loss-by-length',
        caption: 'Mean negative log-likelihood of a token by the length of the windows (figure 5 of the paper).',
        curves,
        xLabel: 'context length in tokens',
        yLabel: 'nats per token',
        xLog2: true,
      },
    );
  }
  if (results.length > 0) {
    blocks.push(
      { kind: 'heading', text: 'Loss by position' },
      {
        kind: 'curves',
        name: 'loss-by-position',
        caption:
          'Mean negative log-likelihood of the tokens from half to the whole of a position in the window, which is counted from 1 and begins, with the document protocol, with the token before the document (figure 8 of the paper).',
        curves: results.map(({ protocol, length, lossByPosition }) => ({
          name: protocols.length > 1 ? `${protocol}, windows of ${length}` : `windows of ${length}`,
          points: lossByPosition.map(({ end, nll }) => ({ x: end, y: nll })),
        })),
        xLabel: 'position in the window',
        yLabel: 'nats per token',
        xLog2: true,
      },
    );
  }
  blocks.push({
    kind: 'table',
    columns: ['protocol', 'length', 'nats per token', 'perplexity', 'word perplexity', 'bits per byte', 'tokens'],
    rows: results.map(({ protocol, length, nll, perplexity, wordPerplexity, bitsPerByte, tokens }) => [
      ...[protocol, length, nll.toFixed(4), perplexity.toFixed(2), wordPerplexity.toFixed(2)],
      ...[bitsPerByte.toFixed(4), tokens],
    ]),
  });
  return blocks;
}
