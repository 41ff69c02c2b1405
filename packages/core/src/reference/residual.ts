/** The residual connection in plain tfjs ops. */
import { add, mul } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const residual: ReferenceKernel<'Residual'> = ({ x, branch }, { multiplier }) => [
  add(x, multiplier === 1 ? branch : mul(branch, multiplier)),
];

export const residualGrad: ReferenceKernel<'ResidualGrad'> = ({ dy }, { multiplier }) => [mul(dy, multiplier)];
