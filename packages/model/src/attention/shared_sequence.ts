/**
 * A sequence whose tokens several processes have (context parallelism): each has as many consecutive tokens for everything but
 * the attention itself. By heads (https://arxiv.org/abs/2309.14509), they exchange parts before it, so that each has all tokens
 * of its share of the heads, and exchange them back after it. In a ring, each keeps its queries, and the keys and values of
 * the others come to it.
 */
import type { AttentionRing } from '@stickbreaking/core';
import { customGrad, reshape, type Tensor, type Tensor3D, tidy, transpose } from '@tensorflow/tfjs-core';

/** How they share it in the attention. */
export const SHARED_BY = ['heads', 'ring'] as const;
/** One of `SHARED_BY`. */
export type SharedBy = (typeof SHARED_BY)[number];

/** The processes that share a sequence, as one of them sees them: this one has the tokens from rank/size of it on. */
export interface SequenceGroup extends AttentionRing {
  readonly by: SharedBy;
  /**
   * Gives the r-th of `size` equal parts along the first axis to process r, and returns those that the processes gave to this
   * one, in their order: a new tensor of the same shape, without a gradient. All make the same calls in the same order.
   */
  exchange(parts: Tensor): Tensor;
}

/**
 * All tokens of this process's heads, from this process's tokens of all heads.
 *
 * @param x [N / size, heads, D]
 * @returns [N, heads / size, D]
 */
export function toHeads(x: Tensor3D, group: SequenceGroup): Tensor3D {
  const split = customGrad((given) => ({
    value: headsOf(given as Tensor3D, group),
    gradFunc: (dy: Tensor) => tokensOf(dy as Tensor3D, group),
  }));
  return split(x) as Tensor3D;
}

/**
 * The inverse: this process's tokens of all heads.
 *
 * @param x [N, heads / size, D]
 * @returns [N / size, heads, D]
 */
export function toTokens(x: Tensor3D, group: SequenceGroup): Tensor3D {
  const joined = customGrad((given) => ({
    value: tokensOf(given as Tensor3D, group),
    gradFunc: (dy: Tensor) => headsOf(dy as Tensor3D, group),
  }));
  return joined(x) as Tensor3D;
}

function headsOf(x: Tensor3D, group: SequenceGroup): Tensor3D {
  const { size } = group;
  const [tokens, heads, headDim] = x.shape;
  return tidy(() => {
    const byHeads = transpose(reshape(x, [tokens, size, (heads / size) * headDim]), [1, 0, 2]);
    return reshape(group.exchange(byHeads), [tokens * size, heads / size, headDim]) as Tensor3D;
  });
}

function tokensOf(x: Tensor3D, group: SequenceGroup): Tensor3D {
  const { size } = group;
  const [tokens, heads, headDim] = x.shape;
  return tidy(() => {
    const byTokens = group.exchange(reshape(x, [size, tokens / size, heads * headDim]));
    return reshape(transpose(byTokens, [1, 0, 2]), [tokens / size, heads * size, headDim]) as Tensor3D;
  });
}
