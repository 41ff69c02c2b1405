/**
 * Partial rotation: only the first dimensions of each head are turned by RoPE, in pairs of their own halves (GPT-NeoX,
 * Phi-3). The ops pair dimension i with i + headDim/2 and turn any pair by nothing: with the dimensions of queries and keys in
 * another order, which changes no q·k, those that belong together meet.
 */
import { concat, customGrad, type Tensor, type Tensor3D } from '@tensorflow/tfjs-core';
import type { QueriesAndKeys } from './attention_kind.js';

/**
 * Queries and keys whose first `rotated` dimensions lie as the first of both halves of a head.
 *
 * @param rotated even, at most headDim
 */
export function pairedForRotation(inputs: QueriesAndKeys, rotated: number): QueriesAndKeys {
  const turn = rotated / 2;
  const rest = inputs.q.shape[2] / 2 - turn;
  if (rest === 0) return inputs;
  return { ...inputs, q: swapped(inputs.q, [turn, turn, rest, rest]), k: swapped(inputs.k, [turn, turn, rest, rest]) };
}

type Lengths = readonly [number, number, number, number];

/** With the second and the third of four parts of each head in each other's place. */
function swapped(x: Tensor3D, lengths: Lengths): Tensor3D {
  const [a, b, c, d] = lengths;
  const swap = customGrad((given) => ({
    value: exchanged(given as Tensor3D, lengths),
    gradFunc: (dy: Tensor) => exchanged(dy as Tensor3D, [a, c, b, d]),
  }));
  return swap(x) as Tensor3D;
}

function exchanged(x: Tensor3D, [a, b, c, d]: Lengths): Tensor3D {
  const [tokens, heads] = x.shape;
  // With the dimensions first, each part is one run of memory.
  const byDimension = x.transpose([2, 0, 1]);
  const part = (begin: number, length: number) => byDimension.slice([begin, 0, 0], [length, tokens, heads]);
  return concat([part(0, a), part(a + b, c), part(a, b), part(a + b + c, d)]).transpose([1, 2, 0]);
}
