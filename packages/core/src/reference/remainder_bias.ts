/** The remainder's learned vector in plain tfjs ops. */
import { sum } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const remainderBias: ReferenceKernel<'RemainderBias'> = ({ output, remainder, bias }) => [
  output.add(remainder.reshape([...remainder.shape, 1]).mul(bias)),
];

export const remainderBiasGrad: ReferenceKernel<'RemainderBiasGrad'> = ({ remainder, bias, dy }) => [
  sum(dy.mul(bias), 2),
  sum(dy.mul(remainder.reshape([...remainder.shape, 1])), 0),
];
