/** RMSNorm and per-head group norm in plain tfjs ops. */
import { mean, mul, rsqrt, sum } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const rmsNorm: ReferenceKernel<'RMSNorm'> = ({ x, weight }, { epsilon }) => {
  const inverseRms = rsqrt(mean(x.square(), 1, true).add(epsilon));
  return [x.mul(inverseRms).mul(weight), inverseRms.reshape([-1])];
};

export const rmsNormGrad: ReferenceKernel<'RMSNormGrad'> = ({ x, weight, inverseRms, dy }) => {
  const inverse = inverseRms.reshape([-1, 1]);
  const normalised = x.mul(inverse);
  const dNormalised = dy.mul(weight);
  const dx = dNormalised.sub(normalised.mul(mean(mul(dNormalised, normalised), 1, true))).mul(inverse);
  return [dx, sum(mul(dy, normalised), 0)];
};

export const headNorm: ReferenceKernel<'HeadNorm'> = ({ x, weight, bias }, { epsilon }) => {
  const center = mean(x, 2, true);
  const centered = x.sub(center);
  const inverseStd = rsqrt(mean(centered.square(), 2, true).add(epsilon));
  const shape = x.shape.slice(0, 2);
  return [centered.mul(inverseStd).mul(weight).add(bias), center.reshape(shape), inverseStd.reshape(shape)];
};

export const headNormGrad: ReferenceKernel<'HeadNormGrad'> = ({ x, weight, mean: center, inverseStd, dy }) => {
  const column = [...x.shape.slice(0, 2), 1];
  const inverse = inverseStd.reshape(column);
  const normalised = x.sub(center.reshape(column)).mul(inverse);
  const dNormalised = dy.mul(weight);
  const along = mean(mul(dNormalised, normalised), 2, true);
  const dx = dNormalised
    .sub(mean(dNormalised, 2, true))
    .sub(normalised.mul(along))
    .mul(inverse);
  return [dx, sum(mul(dy, normalised), 0), sum(dy, 0)];
};
