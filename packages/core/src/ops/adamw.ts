import { UserError } from '@stickbreaking/base';
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import { checkInt, checkNumber, checkShape } from '../checks.js';
import type { AdamWAttributes, Kernels } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/** Parameters, their gradients and moments, and the settings of the update. */
export interface AdamWOptions extends AdamWAttributes {
  parameters: readonly Variable[];
  /** One for each parameter, of its shape. */
  gradients: readonly Tensor[];
  firstMoments: readonly Variable[];
  secondMoments: readonly Variable[];
  /**
   * Besides `gradientScale`, a factor that the host need not know yet, so that a device goes on meanwhile; where it is not a
   * number, nothing is updated.
   */
  scale?: Tensor;
}

/**
 * One update of AdamW (https://arxiv.org/abs/1711.05101) over all parameters, in place: moments with bias correction,
 * decoupled weight decay `parameter −= learningRate · weightDecay · parameter`.
 *
 * @throws UserError if there are not as many gradients, moments and weight decays as parameters, or a setting or `scale` does not
 *   fit
 */
export function adamW(options: AdamWOptions): void {
  const op = 'adamW';
  const { parameters, gradients, firstMoments, secondMoments, scale, ...attrs } = options;
  if (attrs.weightDecays.length !== parameters.length) {
    throw new UserError(`${op}: ${attrs.weightDecays.length} weight decays for ${parameters.length} parameters.`);
  }
  attrs.weightDecays.forEach((weightDecay, i) => {
    checkNumber(op, `weightDecays[${i}]`, weightDecay);
  });
  for (const name of ['learningRate', 'gradientScale'] as const) checkNumber(op, name, attrs[name]);
  checkNumber(op, 'epsilon', attrs.epsilon, 0);
  for (const name of ['beta1', 'beta2'] as const) {
    const beta = attrs[name];
    if (!(beta >= 0 && beta < 1)) throw new UserError(`${op}: ${name} is ${beta}; expected a number from 0, below 1.`);
  }
  checkInt(op, 'step', attrs.step, 1);
  if (attrs.momentType !== undefined && !['float32', 'bfloat16'].includes(attrs.momentType))
    throw new UserError(`${op}: momentType is ${attrs.momentType}; expected 'float32' or 'bfloat16'.`);
  if (scale) checkShape(op, 'scale', scale, []);
  const inputs: Kernels['AdamW']['inputs'] = scale ? { scale } : {};
  parameters.forEach((parameter, i) => {
    const parts = { grad: gradients[i], m: firstMoments[i], v: secondMoments[i] };
    inputs[`param${i}`] = parameter;
    for (const name of ['grad', 'm', 'v'] as const) {
      const tensor = parts[name];
      if (!tensor) throw new UserError(`${op}: parameter ${i} has no ${name}.`);
      checkShape(op, `${name} of parameter ${i}`, tensor, parameter.shape);
      inputs[`${name}${i}`] = tensor;
    }
  });
  runKernel('AdamW', inputs, attrs);
}
