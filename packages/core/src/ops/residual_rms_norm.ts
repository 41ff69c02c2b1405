import { clone, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { ConnectionAttributes, ReadByAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/** Options of `residualRmsNorm`. */
export interface ResidualRmsNormOptions extends ReadByAttributes, Omit<ConnectionAttributes, 'multiplier'> {
  /** Added to the mean square; default 1e-5. */
  epsilon?: number;
  /** muP's residual multiplier (https://arxiv.org/abs/2408.13359); default 1. */
  multiplier?: number;
}

/**
 * A residual connection and the norm that reads it, in one: `sum = x + multiplier · branch` and
 * `normalised = rmsNorm(sum, weight)`. That is one pass over memory where the two ops take two, and
 * one for their gradients, which then need no addition.
 *
 * @param x [N, C]
 * @param branch [N, C]
 * @param weight [C]
 * @returns sum and normalised, both [N, C]
 */
export function residualRmsNorm(
  x: Tensor,
  branch: Tensor,
  weight: Tensor,
  { epsilon = 1e-5, multiplier = 1, ...others }: ResidualRmsNormOptions = {},
): { sum: Tensor2D; normalised: Tensor2D } {
  checkShape('residualRmsNorm', 'x', x, [-1, -1]);
  checkShape('residualRmsNorm', 'branch', branch, x.shape);
  checkShape('residualRmsNorm', 'weight', weight, [x.shape[1]]);
  checkNumber('residualRmsNorm', 'epsilon', epsilon, 0);
  checkNumber('residualRmsNorm', 'multiplier', multiplier);
  return tidy(() => {
    const outputs = runKernel('ResidualRMSNorm', { x, branch, weight }, { epsilon, multiplier, ...others });
    return { sum: outputs[0] as Tensor2D, normalised: outputs[1] as Tensor2D };
  });
}

defineGradient(
  'ResidualRMSNorm',
  { inputs: ['weight'], outputs: [0, 2] },
  ([dSum, dy], [weight, sum, inverseRms], { epsilon, consumed, ...attrs }) => {
    const [dx, dWeight, dBranch] = runKernel('ResidualRMSNormGrad', { sum, weight, inverseRms, dSum, dy }, attrs);
    return { x: () => dx, branch: () => dBranch ?? clone(dx), weight: () => dWeight };
  },
);
