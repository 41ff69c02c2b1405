import { registerGradient, type Tensor, type Tensor2D, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';
import { runKernel } from '../run_kernel.js';

/**
 * Group norm with one group a head: each head's output is normalised by its own mean and variance over D, then scaled
 * and shifted. https://arxiv.org/abs/2410.17980, appendix C.
 *
 * @param x [N, H, D]
 * @param weight [H, D]
 * @param bias [H, D]
 * @returns [N, H, D]
 */
export function headNorm(x: Tensor3D, weight: Tensor2D, bias: Tensor2D, epsilon = 1e-5): Tensor3D {
  checkShape('headNorm', 'x', x, [-1, -1, -1]);
  checkShape('headNorm', 'weight', weight, x.shape.slice(1));
  checkShape('headNorm', 'bias', bias, x.shape.slice(1));
  return tidy(() => runKernel('HeadNorm', { x, weight, bias }, { epsilon })[0] as Tensor3D);
}

registerGradient({
  kernelName: 'HeadNorm',
  inputsToSave: ['x', 'weight'],
  outputsToSave: [false, true, true],
  gradFunc: (dy, saved, attrs) => {
    const [x, weight, mean, inverseStd] = saved as [Tensor, Tensor, Tensor, Tensor];
    const gradients = runKernel(
      'HeadNormGrad',
      { x, weight, mean, inverseStd, dy: (dy as Tensor[])[0]! },
      attrs as unknown as { epsilon: number },
    );
    return { x: () => gradients[0]!, weight: () => gradients[1]!, bias: () => gradients[2]! };
  },
});
