import { type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkDtype, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { ResidualAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';
import { addable } from '../value_and_gradients.js';

/**
 * The rows of `weight` for `tokens`; differentiable in the weight.
 *
 * @param tokens int32 [N], each from 0 to V−1
 * @param weight [V, C]
 * @returns [N, C]
 */
export function embedding(tokens: Tensor, weight: Tensor, attrs: ResidualAttributes = {}): Tensor2D {
  checkShape('embedding', 'tokens', tokens, [-1]);
  checkDtype('embedding', 'tokens', tokens, 'int32');
  checkShape('embedding', 'weight', weight, [-1, -1]);
  return tidy(() => runKernel('Embedding', { tokens, weight }, attrs)[0] as Tensor2D);
}

defineGradient('Embedding', { inputs: ['tokens', 'weight'] }, ([dy], [tokens, weight]) => {
  const attrs = { vocabSize: weight.shape[0]! };
  const gradient = (sum?: Tensor) => runKernel('EmbeddingGrad', { tokens, dy, ...(sum ? { sum } : {}) }, attrs);
  const [dWeight] = addable([() => gradient()[0]], ([sum]) => gradient(sum));
  return { weight: dWeight! };
});
