/** Rotary position embedding (RoPE, https://arxiv.org/abs/2104.09864) over packed documents. */
import { UserError } from '@stickbreaking/base';
import { type Tensor, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkDtype, checkInt, checkInts, checkNumber, checkPacking, checkShape, type Ints } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { RotaryAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/** Documents, positions and frequencies for `rotaryEmbedding`. */
export interface RotaryOptions {
  /** [S+1] boundaries of the documents among the rows of q. */
  cuSeqlens: Ints;
  /** [S+1] boundaries among the rows of k; the queries of a document are the last of its keys. Default: `cuSeqlens`. */
  cuSeqlensK?: Ints;
  /** [S] position of each document's first key; default 0. */
  firstPositions?: Ints;
  /** [D/2], or [S·D/2] where each document has its own. */
  inverseFrequencies: Float64Array | Float32Array;
}

/**
 * Rotates each pair (i, i + D/2) of a row by the angle position · inverseFrequencies[i], computed in float64.
 *
 * @param q [N, H, D], D even
 * @param k [M, K, D]
 * @returns both, rotated
 * @throws UserError if shapes, types, boundaries or options do not fit
 */
export function rotaryEmbedding(q: Tensor, k: Tensor, options: RotaryOptions): { q: Tensor3D; k: Tensor3D } {
  const attrs = rotaryAttributes('rotaryEmbedding', q, k, options);
  return tidy(() => {
    const [turnedQ, turnedK] = runKernel('RotaryEmbedding', { q, k }, attrs) as [Tensor3D, Tensor3D];
    return { q: turnedQ, k: turnedK };
  });
}

/** The kernels' attributes, with everything checked. */
export function rotaryAttributes(op: string, q: Tensor, k: Tensor, options: RotaryOptions): RotaryAttributes {
  checkShape(op, 'q', q, [-1, -1, -1]);
  checkShape(op, 'k', k, [-1, -1, q.shape[2]]);
  checkDtype(op, 'q', q, 'float32');
  checkDtype(op, 'k', k, 'float32');
  if (q.shape[2] % 2 !== 0) throw new UserError(`${op}: head dimension ${q.shape[2]}; expected an even one.`);
  const { cuSeqlens, cuSeqlensK } = checkPacking(op, q.shape[0], k.shape[0], options);
  const documents = cuSeqlens.length - 1;
  const half = q.shape[2] / 2;
  const inverseFrequencies = Float64Array.from(options.inverseFrequencies);
  if (inverseFrequencies.length !== half && inverseFrequencies.length !== documents * half) {
    throw new UserError(
      `${op}: ${inverseFrequencies.length} inverse frequencies; expected ${half}, or as many for each of the ${documents} documents.`,
    );
  }
  inverseFrequencies.forEach((frequency, i) => {
    checkNumber(op, `inverseFrequencies[${i}]`, frequency);
  });
  const { firstPositions } = options;
  const firstKeys = firstPositions ? checkInts(op, 'firstPositions', firstPositions, 0) : new Int32Array(documents);
  if (firstKeys.length !== documents) {
    throw new UserError(`${op}: ${firstKeys.length} first positions for ${documents} documents.`);
  }
  const length = (boundaries: Int32Array, s: number) => boundaries[s + 1]! - boundaries[s]!;
  firstKeys.forEach((first, s) => {
    checkInt(op, `the position of document ${s}'s last key`, first + length(cuSeqlensK, s));
  });
  const firstQueries = firstKeys.map((first, s) => first + length(cuSeqlensK, s) - length(cuSeqlens, s));
  return {
    queries: { cuSeqlens, firstPositions: firstQueries },
    keys: { cuSeqlens: cuSeqlensK, firstPositions: firstKeys },
    inverseFrequencies,
    inverse: false,
  };
}

defineGradient('RotaryEmbedding', {}, ([q, k], _saved, attrs) => {
  const [dq, dk] = runKernel('RotaryEmbedding', { q, k }, { ...attrs, inverse: !attrs.inverse });
  return { q: () => dq, k: () => dk };
});
