import { matMul, type Tensor2D } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';

/**
 * x·Wᵀ, with the weight as torch and Hugging Face lay it out.
 *
 * @param x [N, C]
 * @param weight [out, C]
 * @returns [N, out]
 */
export function linear(x: Tensor2D, weight: Tensor2D): Tensor2D {
  checkShape('linear', 'x', x, [-1, -1]);
  checkShape('linear', 'weight', weight, [-1, x.shape[1]]);
  return matMul(x, weight, false, true);
}
