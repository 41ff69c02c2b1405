import { UserError } from '@stickbreaking/base';
import { matMul, registerGradient, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';
import type { MatmulAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';
import { addable } from '../value_and_gradients.js';

/**
 * x·Wᵀ, with the weight in the layout of torch and Hugging Face.
 *
 * @param x [N, C]
 * @param weight [out, C]
 * @returns [N, out]
 */
export function linear(x: Tensor, weight: Tensor, attrs: MatmulAttributes = {}): Tensor2D {
  checkShape('linear', 'x', x, [-1, -1]);
  checkShape('linear', 'weight', weight, [-1, x.shape[1]]);
  return linears(x, [weight], attrs)[0];
}

/**
 * x·Wᵀ for several weights. The gradient of x is one sum, which a backend's matmuls can accumulate; several `linear`s
 * would need separate additions.
 *
 * @param x [N, C]
 * @param weights at least one, each [out, C] with an `out` of its own
 * @returns [N, out] of each weight
 */
export function linears<const Weights extends readonly Tensor[]>(
  x: Tensor,
  weights: Weights,
  attrs: MatmulAttributes = {},
): { [Index in keyof Weights]: Tensor2D } {
  checkShape('linears', 'x', x, [-1, -1]);
  if (weights.length === 0) throw new UserError('linears: no weights; expected at least one.');
  weights.forEach((weight, i) => {
    checkShape('linears', `weight ${i}`, weight, [-1, x.shape[1]]);
  });
  return tidy(() => runKernel('Linears', [x, ...weights], attrs)) as { [Index in keyof Weights]: Tensor2D };
}

/** Kernel inputs dy0, dy1, … of those that there are. */
function numbered<Name extends string>(name: Name, tensors: readonly (Tensor | undefined)[]) {
  const there = tensors.flatMap((tensor, i) => (tensor ? [[`${name}${i}`, tensor] as const] : []));
  return Object.fromEntries(there) as Record<`${Name}${number}`, Tensor>;
}

registerGradient({
  kernelName: 'Linears',
  saveAllInputs: true,
  gradFunc: (dy, saved, attrs) => {
    const [x, ...weights] = saved as [Tensor, ...Tensor[]];
    const dys = [dy].flat();
    const gradients = [
      () =>
        runKernel(
          'LinearsGrad',
          dys.flatMap((one, i) => [one, weights[i]!]),
          attrs as MatmulAttributes,
        )[0]!,
      ...addable(
        dys.map((dy) => () => matMul(dy, x, true, false)),
        (sums) => runKernel('WeightGrads', { x, ...numbered('dy', dys), ...numbered('sum', sums) }, {}),
      ),
    ];
    return Object.fromEntries(gradients.entries());
  },
});
