import { clone, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { ConnectionAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/**
 * A residual connection: `x + multiplier · branch`. Unlike tfjs's `add`, it saves neither input for its gradient.
 *
 * @param x [N, C]
 * @param branch [N, C]
 * @param multiplier muP's residual multiplier (https://arxiv.org/abs/2408.13359); default 1
 * @returns [N, C]
 */
export function residual(
  x: Tensor,
  branch: Tensor,
  multiplier = 1,
  attrs: Omit<ConnectionAttributes, 'multiplier'> = {},
): Tensor2D {
  checkShape('residual', 'x', x, [-1, -1]);
  checkShape('residual', 'branch', branch, x.shape);
  checkNumber('residual', 'multiplier', multiplier);
  return tidy(() => runKernel('Residual', { x, branch }, { multiplier, ...attrs })[0] as Tensor2D);
}

defineGradient('Residual', {}, ([dy], _saved, { multiplier }) => ({
  x: () => clone(dy),
  branch: () => (multiplier === 1 ? clone(dy) : runKernel('ResidualGrad', { dy }, { multiplier })[0]),
}));
