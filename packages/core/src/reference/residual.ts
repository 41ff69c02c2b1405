/** The residual connection in plain tfjs ops, alone and with the norm that reads it. */
import { add, mul } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';
import { rmsNorm, rmsNormGrad } from './norms.js';

export const residual: ReferenceKernel<'Residual'> = ({ x, branch }, { multiplier }) => [
  add(x, multiplier === 1 ? branch : mul(branch, multiplier)),
];

export const residualGrad: ReferenceKernel<'ResidualGrad'> = ({ dy }, { multiplier }) => [mul(dy, multiplier)];

export const residualRmsNorm: ReferenceKernel<'ResidualRMSNorm'> = ({ x, branch, weight }, { epsilon, multiplier }) => {
  const [sum] = residual({ x, branch }, { multiplier });
  return [sum, ...rmsNorm({ x: sum, weight }, { epsilon })];
};

export const residualRmsNormGrad: ReferenceKernel<'ResidualRMSNormGrad'> = (
  { sum, weight, inverseRms, dSum, dy },
  { multiplier },
) => {
  const [dNormalised, dWeight] = rmsNormGrad({ x: sum, weight, inverseRms, dy }, {});
  const dx = add(dSum, dNormalised);
  return multiplier === 1 ? [dx, dWeight] : [dx, dWeight, ...residualGrad({ dy: dx }, { multiplier })];
};
