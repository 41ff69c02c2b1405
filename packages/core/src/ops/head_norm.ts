import { type Tensor, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';

/**
 * Group norm with one group for each head: each head's output is normalised by its own mean and variance over D, then
 * scaled and shifted. https://arxiv.org/abs/2410.17980, appendix C.
 *
 * @param x [N, H, D]
 * @param weight [H, D]
 * @param bias [H, D]
 * @returns [N, H, D]
 */
export function headNorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon = 1e-5): Tensor3D {
  checkShape('headNorm', 'x', x, [-1, -1, -1]);
  checkShape('headNorm', 'weight', weight, x.shape.slice(1));
  checkShape('headNorm', 'bias', bias, x.shape.slice(1));
  checkNumber('headNorm', 'epsilon', epsilon, 0);
  return tidy(() => runKernel('HeadNorm', { x, weight, bias }, { epsilon })[0] as Tensor3D);
}

defineGradient(
  'HeadNorm',
  { inputs: ['x', 'weight'], outputs: [1, 2] },
  ([dy], [x, weight, mean, inverseStd], attrs) => {
    const [dx, dWeight, dBias] = runKernel('HeadNormGrad', { x, weight, mean, inverseStd, dy }, attrs);
    return { x: () => dx, weight: () => dWeight, bias: () => dBias };
  },
);
