/** AdamW in plain tfjs ops. It assigns the variables, which is as close to "in place" as tfjs allows. */
import {
  abs,
  add,
  div,
  less,
  mul,
  sign,
  sub,
  type Tensor,
  tensor,
  tidy,
  type Variable,
  where,
} from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';
import { MOMENT_SHIFT, momentSeed, roundingBits } from '../stochastic_rounding.js';
import { bfloat16 } from './fewer_bits.js';

export const adamW: ReferenceKernel<'AdamW'> = (inputs, attrs) => {
  const { weightDecays, learningRate, beta1, beta2, epsilon, step, momentType } = attrs;
  const gradientScale = attrs.gradientScale * (inputs.scale?.dataSync()[0] ?? 1);
  if (Number.isNaN(gradientScale)) return [];
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
      const kept = (moment: Tensor, which: keyof typeof MOMENT_SHIFT) =>
        momentType === 'bfloat16' ? stochastic(moment, momentSeed(step, i), MOMENT_SHIFT[which]) : moment;
      firstMoment.assign(kept(m, 'first'));
      secondMoment.assign(kept(v, 'second'));
    });
  });
  return [];
};

/** Each number rounded to one of the two bfloat16 around it, as often to the nearer one as it is nearer. */
function stochastic(x: Tensor, seed: number, shift: number): Tensor {
  const chance = Float32Array.from(
    { length: x.size },
    (_, i) => ((roundingBits(seed, i) >>> shift) & 0xffff) / 2 ** 16,
  );
  const near = bfloat16(x);
  const lost = sub(x, near);
  // More than half of the way to the next bfloat16, and less than one and a half.
  const other = bfloat16(add(near, mul(sign(lost), mul(abs(near), 1.01 * 2 ** -8))));
  const share = div(lost, sub(other, near)); // 0/0 where nothing is lost: no comparison holds
  return where(less(tensor(chance, x.shape), share), other, near);
}
