/**
 * The forget gate of the Forgetting Transformer (https://arxiv.org/abs/2503.02130): each token has a gate f between 0 and 1
 * for each head, and the logit of query i and key j ≤ i gains Σ log f_l over the tokens l = j+1 … i between them, which is
 * C_i − C_j with C the sums from the document's first token on. C_i is the same for all keys of a query, so softmax does not
 * see it: what is left is a bias of each key, −C_j, and no position is needed.
 */
import { concat, cumsum, neg, type Tensor, type Tensor2D, tidy, transpose, zeros } from '@tensorflow/tfjs-core';
import { checkCuSeqlens, checkShape, type Ints } from '../checks.js';

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
  const [tokens, heads] = logForget.shape as [number, number];
  const bounds = checkCuSeqlens(op, 'cuSeqlens', cuSeqlens, tokens);
  return tidy(() => {
    const sums: Tensor[] = [];
    for (let s = 0; s + 1 < bounds.length; s++) {
      const [begin, length] = [bounds[s]!, bounds[s + 1]! - bounds[s]!];
      if (length === 0) continue;
      const own = transpose((logForget as Tensor2D).slice([begin, 0], [length, heads]));
      sums.push(transpose(cumsum(own, 1))); // along its last axis: tfjs's gradient along another has the wrong shape
    }
    if (sums.length === 0) return zeros([tokens, heads]) as Tensor2D;
    return neg(sums.length === 1 ? sums[0]! : concat(sums, 0)) as Tensor2D;
  });
}
