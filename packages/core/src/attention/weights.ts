/**
 * The attention weights themselves, an N×N matrix a head, which the attention kernels never hold as a whole. For
 * looking into a model on a short text. Computed by the reference kernels, with a single block for the whole text.
 */
import { UserError } from '@stickbreaking/base';
import { broadcastTo, concat, reshape, softmax, type Tensor, type Tensor3D, tidy, zeros } from '@tensorflow/tfjs-core';
import { checkAttention, checkShape } from '../checks.js';
import { rows } from '../reference/blocks.js';
import { blockLogits, maskOf as softmaxMaskOf } from '../reference/softmax.js';
import { blockWeights, maskOf as stickBreakingMaskOf } from '../reference/stick_breaking.js';
import { type SoftmaxOptions, softmaxInputs } from './softmax.js';
import type { StickBreakingOptions } from './stick_breaking.js';

type OneDocument<Options> = Omit<Options, 'cuSeqlens' | 'cuSeqlensK'>;

/** The longest text whose weights are computed: 2,048² numbers a head are 16 MiB. */
export const MOST_WEIGHTED_TOKENS = 2048;

function oneDocument(tokens: number) {
  if (tokens > MOST_WEIGHTED_TOKENS) {
    throw new UserError(
      `Attention weights are an N×N matrix: ${tokens} tokens are too many, ${MOST_WEIGHTED_TOKENS} is the most; take a shorter text.`,
    );
  }
  const whole = { begin: 0, end: tokens };
  return { queries: whole, keys: whole, firstPosition: 0 };
}

/**
 * Weights of stick-breaking attention over one document (equation 4 of https://arxiv.org/abs/2410.17980).
 *
 * @param q [N, H, D]
 * @param k [N, K, D] with H a multiple of K
 * @returns weights [H, N, N], row j the query and column i the key, 0 where a key is masked; a row sums to one minus
 *   the remainder
 * @throws UserError if shapes do not fit or N is above 2,048
 */
export function stickBreakingWeights(q: Tensor, k: Tensor, options: OneDocument<StickBreakingOptions> = {}): Tensor3D {
  checkShape('stickBreakingWeights', 'q', q, [-1, -1, -1]);
  const document = oneDocument(q.shape[0]);
  const cuSeqlens = [0, q.shape[0]];
  const { scale } = checkAttention('stickBreakingWeights', q, k, k, { ...options, cuSeqlens });
  return tidy(() => {
    const mask = stickBreakingMaskOf(document.queries, document.keys, document, options.attendCurrent ?? false);
    const [queries, keys] = [rows(q, 0, q.shape[0]), rows(k, 0, k.shape[0])];
    const carry = zeros([q.shape[1], q.shape[0], 1]) as Tensor3D;
    return blockWeights(queries, keys, carry, mask, scale).weights;
  });
}

/**
 * Weights of causal softmax attention over one document, with any position scheme.
 *
 * @param q [N, H, D]; unrotated, as `softmaxAttention` takes it
 * @param k [N, K, D] with H a multiple of K
 * @returns weights [H, N, N], row j the query and column i the key; a row sums to one, less what a sink takes
 * @throws UserError if shapes or options do not fit or N is above 2,048
 */
export function softmaxWeights(q: Tensor, k: Tensor, options: OneDocument<SoftmaxOptions>): Tensor3D {
  checkShape('softmaxWeights', 'q', q, [-1, -1, -1]);
  const document = oneDocument(q.shape[0]);
  return tidy(() => {
    const { inputs, attrs } = softmaxInputs('softmaxWeights', q, k, k, { ...options, cuSeqlens: [0, q.shape[0]] });
    const mask = softmaxMaskOf(document.queries, document.keys, document, attrs);
    const [queries, keys] = [rows(inputs.q, 0, q.shape[0]), rows(inputs.k, 0, k.shape[0])];
    const logits = blockLogits(queries, keys, inputs, document, document.queries, document.keys, mask, attrs);
    if (!options.sink) return softmax(logits, 2);
    // The sink is one more key, whose column is not shown.
    const [numHeads, length] = logits.shape;
    const resting = broadcastTo(reshape(options.sink, [-1, 1, 1]), [numHeads, length, 1]) as Tensor3D;
    return softmax(concat([logits, resting], 2), 2).slice([0, 0, 0], logits.shape) as Tensor3D;
  });
}
