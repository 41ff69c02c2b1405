/**
 * The forget gate of the Forgetting Transformer (https://arxiv.org/abs/2503.02130): each token has a gate f between 0 and 1
 * for each head, and the logit of query i and key j ≤ i gains Σ log f_l over the tokens l = j+1 … i between them, which is
 * C_i − C_j with C the sums from the document's first token on. C_i is the same for all keys of a query, so softmax does not
 * see it: what is left is a bias of each key, −C_j, and no position is needed.
 */
import { neg, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkCuSeqlens, checkShape, type Ints } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';

/**
 * The bias of keys, for `softmaxAttention`'s position `{ kind: 'keys', keyBias }`; differentiable.
 *
 * @param logForget [M, K] the logarithm of each token's forget gate, by key-value head
 * @param cuSeqlens [S+1] boundaries of the documents among them
 * @returns [M, K]
 * @throws UserError if shapes or boundaries do not fit
 */
export function forgettingBias(logForget: Tensor, cuSeqlens: Ints): Tensor2D {
  const op = 'forgettingBias';
  checkShape(op, 'logForget', logForget, [-1, -1]);
  const bounds = checkCuSeqlens(op, 'cuSeqlens', cuSeqlens, logForget.shape[0]!);
  return tidy(
    () => neg(runKernel('DocumentSums', { x: logForget }, { cuSeqlens: bounds, reverse: false })[0]) as Tensor2D,
  );
}

defineGradient('DocumentSums', {}, ([dy], _saved, { cuSeqlens, reverse }) => ({
  x: () => runKernel('DocumentSums', { x: dy }, { cuSeqlens, reverse: !reverse })[0],
}));
