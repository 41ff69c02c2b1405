import { type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { ReadByAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/**
 * The gate of a SwiGLU feed-forward layer (https://arxiv.org/abs/2002.05202): `silu(gate) · up`.
 *
 * @param gate [N, F]
 * @param up [N, F]
 * @returns [N, F]
 */
export function swiGlu(gate: Tensor, up: Tensor, attrs: ReadByAttributes = {}): Tensor2D {
  checkShape('swiGlu', 'gate', gate, [-1, -1]);
  checkShape('swiGlu', 'up', up, gate.shape);
  return tidy(() => runKernel('SwiGLU', { gate, up }, attrs)[0] as Tensor2D);
}

defineGradient('SwiGLU', { inputs: ['gate', 'up'] }, ([dy], [gate, up], attrs) => {
  const [dGate, dUp] = runKernel('SwiGLUGrad', { gate, up, dy }, attrs);
  return { gate: () => dGate, up: () => dUp };
});
