import { type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { ReadByAttributes, ResidualAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/**
 * Root-mean-square normalisation (https://arxiv.org/abs/1910.07467): `x / √(mean(x²) + epsilon) · weight`.
 *
 * @param x [N, C]
 * @param weight [C]
 * @returns [N, C]
 */
export function rmsNorm(
  x: Tensor,
  weight: Tensor,
  epsilon = 1e-5,
  attrs: ReadByAttributes & ResidualAttributes = {},
): Tensor2D {
  checkShape('rmsNorm', 'x', x, [-1, -1]);
  checkShape('rmsNorm', 'weight', weight, [x.shape[1]]);
  checkNumber('rmsNorm', 'epsilon', epsilon, 0);
  return tidy(() => runKernel('RMSNorm', { x, weight }, { epsilon, ...attrs })[0] as Tensor2D);
}

defineGradient(
  'RMSNorm',
  { inputs: ['x', 'weight'], outputs: [1] },
  ([dy], [x, weight, inverseRms], { residualType }) => {
    const attrs = residualType ? { residualType } : {};
    const [dx, dWeight] = runKernel('RMSNormGrad', { x, weight, inverseRms, dy }, attrs);
    return { x: () => dx, weight: () => dWeight };
  },
);
