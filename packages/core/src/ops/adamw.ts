import { UserError } from '@stickbreaking/base';
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import { checkShape } from '../checks.js';
import type { AdamWAttributes, Kernels } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/** Parameters, their gradients and moments, and the settings of the update. */
export interface AdamWOptions extends AdamWAttributes {
  parameters: readonly Variable[];
  /** One for each parameter, of its shape. */
  gradients: readonly Tensor[];
  firstMoments: readonly Variable[];
  secondMoments: readonly Variable[];
}

/**
 * One update of AdamW (https://arxiv.org/abs/1711.05101) over all parameters, in place: moments with bias correction,
 * decoupled weight decay `parameter −= learningRate · weightDecay · parameter`.
 *
 * @throws UserError if there are not as many gradients, moments and weight decays as parameters
 */
export function adamW(options: AdamWOptions): void {
  const { parameters, gradients, firstMoments, secondMoments, ...attrs } = options;
  if (attrs.weightDecays.length !== parameters.length) {
    throw new UserError(`adamW: ${attrs.weightDecays.length} weight decays for ${parameters.length} parameters.`);
  }
  const inputs: Kernels['AdamW']['inputs'] = {};
  parameters.forEach((parameter, i) => {
    const parts = { grad: gradients[i], m: firstMoments[i], v: secondMoments[i] };
    inputs[`param${i}`] = parameter;
    for (const name of ['grad', 'm', 'v'] as const) {
      const tensor = parts[name];
      if (!tensor) throw new UserError(`adamW: parameter ${i} has no ${name}.`);
      checkShape('adamW', `${name} of parameter ${i}`, tensor, parameter.shape);
      inputs[`${name}${i}`] = tensor;
    }
  });
  runKernel('AdamW', inputs, attrs);
}
