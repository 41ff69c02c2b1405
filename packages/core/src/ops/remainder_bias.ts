import { type Tensor, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';

/**
 * Adds a learned vector of each head, weighted by what no key took: `output + remainder · bias`.
 * https://arxiv.org/abs/2410.17980, equation 14.
 *
 * @param output [N, H, D]
 * @param remainder [N, H]
 * @param bias [H, D]
 * @returns [N, H, D]
 */
export function remainderBias(output: Tensor, remainder: Tensor, bias: Tensor): Tensor3D {
  checkShape('remainderBias', 'output', output, [-1, -1, -1]);
  checkShape('remainderBias', 'remainder', remainder, output.shape.slice(0, 2));
  checkShape('remainderBias', 'bias', bias, output.shape.slice(1));
  return tidy(() => runKernel('RemainderBias', { output, remainder, bias }, {})[0] as Tensor3D);
}

defineGradient('RemainderBias', { inputs: ['remainder', 'bias'] }, ([dy], [remainder, bias]) => {
  const [dRemainder, dBias] = runKernel('RemainderBiasGrad', { remainder, bias, dy }, {});
  return { output: () => dy.clone(), remainder: () => dRemainder, bias: () => dBias };
});
