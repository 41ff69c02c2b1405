/** AdamW in plain tfjs ops. It assigns the variables, which is as close to "in place" as tfjs allows. */
import { tidy, type Variable } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const adamW: ReferenceKernel<'AdamW'> = (inputs, attrs) => {
  const { weightDecays, learningRate, beta1, beta2, epsilon, step, gradientScale } = attrs;
  const unbias1 = 1 / (1 - beta1 ** step);
  const unbias2 = 1 / (1 - beta2 ** step);
  weightDecays.forEach((weightDecay, i) => {
    tidy(() => {
      const parameter = inputs[`param${i}`] as Variable;
      const firstMoment = inputs[`m${i}`] as Variable;
      const secondMoment = inputs[`v${i}`] as Variable;
      const gradient = inputs[`grad${i}`]!.mul(gradientScale);
      const m = firstMoment.mul(beta1).add(gradient.mul(1 - beta1));
      const v = secondMoment.mul(beta2).add(gradient.square().mul(1 - beta2));
      const update = m.mul(unbias1).div(v.mul(unbias2).sqrt().add(epsilon));
      parameter.assign(parameter.mul(1 - learningRate * weightDecay).sub(update.mul(learningRate)));
      firstMoment.assign(m);
      secondMoment.assign(v);
    });
  });
  return [];
};
