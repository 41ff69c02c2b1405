/**
 * Stick-breaking attention: going back from the nearest key, each key breaks its share off what is left of a stick of
 * length one. What no key takes is the remainder. https://arxiv.org/abs/2410.17980, equations 1 to 6.
 */
import { type Tensor, type Tensor2D, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkAttention, type Ints } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';

/** Options that every attention op takes. */
export interface PackedAttentionOptions {
  /** [S+1] boundaries of the documents among the rows of q: 0 … N, never falling. */
  cuSeqlens: Ints;
  /**
   * [S+1] boundaries among the rows of k and v, if there are more keys than queries (a key-value cache): the queries of a
   * document are the last of its keys. Default: `cuSeqlens`.
   */
  cuSeqlensK?: Ints;
  /** Factor on q·k; default 1/√D. */
  scale?: number;
}

/** Options of `stickBreakingAttention`. */
export interface StickBreakingOptions extends PackedAttentionOptions {
  /** Whether a token may attend to itself; default false, as in the paper. */
  attendCurrent?: boolean;
}

/**
 * Causal stick-breaking attention over packed documents, O(N) memory, differentiable in q, k and v through both outputs.
 *
 * For query j and key i < j: `z = q·k·scale`, `A[i,j] = exp(z[i,j] − Σ_{i≤k<j} softplus(z[k,j]))`,
 * `output[j] = Σ_i A[i,j] v[i]`, `remainder[j] = 1 − Σ_i A[i,j]`.
 *
 * @param q [N, H, D]
 * @param k [M, K, D] with H a multiple of K (grouped-query heads)
 * @param v [M, K, D]
 * @returns output [N, H, D]; remainder [N, H]. The first token of a document has output 0 and remainder 1.
 * @throws UserError if shapes, types or boundaries do not fit
 */
export function stickBreakingAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: StickBreakingOptions,
): { output: Tensor3D; remainder: Tensor2D } {
  const packed = checkAttention('stickBreakingAttention', q, k, v, options);
  const attrs = { ...packed, attendCurrent: options.attendCurrent ?? false };
  const [output, remainder] = tidy(() => runKernel('StickBreakingAttention', { q, k, v }, attrs).slice(0, 2));
  return { output: output as Tensor3D, remainder: remainder as Tensor2D };
}

defineGradient(
  'StickBreakingAttention',
  { inputs: ['q', 'k', 'v'], outputs: [1, 2] },
  ([dOutput, dRemainder], [q, k, v, remainder, saved], attrs) => {
    const inputs = { q, k, v, remainder, saved, dOutput, dRemainder };
    const [dq, dk, dv] = runKernel('StickBreakingAttentionGrad', inputs, attrs);
    return { q: () => dq, k: () => dk, v: () => dv };
  },
);
