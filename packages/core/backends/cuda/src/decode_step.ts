/** core's `decodeStep` by recorded graphs: what differs from step to step lies in places that stay. */
import type { DecodeStep } from '@stickbreaking/core/backend';
import { slice, type Tensor, type Tensor1D } from '@tensorflow/tfjs-core';
import type { Graphs } from './graphs.js';
import type { Residents } from './residents.js';

export function recordedDecodeStep(
  { graphs, residents }: { graphs: Graphs; residents: Residents },
  step: DecodeStep,
  run: (tokens: Tensor1D, step: DecodeStep) => Tensor,
): Tensor {
  const padded = paddedStep(step);
  const { owner, tokens, lengths, table } = padded;
  residents.array('lengths', lengths);
  residents.array('table', table);
  const ids = residents.tensor('tokens', tokens);
  try {
    const key = `${tokens.length} rows of ${table.length} pages`;
    const results = graphs.run(owner, key, ids, (given) => run(given, padded));
    if (padded === step) return results;
    const own = slice(results, 0, step.tokens.length);
    results.dispose();
    return own;
  } finally {
    ids.dispose();
  }
}

/** With rows that have no document behind, so that few numbers of rows are recorded as documents come and go. */
export function paddedStep(step: DecodeStep): DecodeStep {
  const rows = step.tokens.length;
  const count = rows <= 2 ? rows : rows <= 4 ? 4 : Math.ceil(rows / 8) * 8;
  if (count === rows) return step;
  const padded = (values: Int32Array) => {
    const all = new Int32Array((values.length / rows) * count);
    all.set(values);
    return all;
  };
  const { owner, tokens, lengths, table } = step;
  return { owner, tokens: padded(tokens), lengths: padded(lengths), table: padded(table) };
}
