/** Several matmuls of one input in plain tfjs ops. */
import { add, addN, matMul } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const linears: ReferenceKernel<'Linears'> = ([x, ...weights]) =>
  weights.map((weight) => matMul(x!, weight, false, true));

export const linearsGrad: ReferenceKernel<'LinearsGrad'> = (inputs) => [
  addN(inputs.flatMap((dy, i) => (i % 2 === 0 ? [matMul(dy, inputs[i + 1]!)] : []))),
];

export const addWeightGrad: ReferenceKernel<'AddWeightGrad'> = ({ sum, dy, x }) => [
  add(sum, matMul(dy, x, true, false)),
];
