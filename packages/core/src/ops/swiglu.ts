import { registerGradient, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';
import { runKernel } from '../run_kernel.js';

/**
 * The gate of a SwiGLU feed-forward layer (https://arxiv.org/abs/2002.05202): `silu(gate) · up`.
 *
 * @param gate [N, F]
 * @param up [N, F]
 * @returns [N, F]
 */
export function swiGlu(gate: Tensor2D, up: Tensor2D): Tensor2D {
  checkShape('swiGlu', 'gate', gate, [-1, -1]);
  checkShape('swiGlu', 'up', up, gate.shape);
  return tidy(() => runKernel('SwiGLU', { gate, up }, {})[0] as Tensor2D);
}

registerGradient({
  kernelName: 'SwiGLU',
  inputsToSave: ['gate', 'up'],
  gradFunc: (dy, saved) => {
    const [gate, up] = saved as [Tensor, Tensor];
    const gradients = runKernel('SwiGLUGrad', { gate, up, dy: dy as Tensor }, {});
    return { gate: () => gradients[0]!, up: () => gradients[1]! };
  },
});
