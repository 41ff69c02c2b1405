/** Several matmuls of one input in plain tfjs ops. */
import { add, addN, concat, matMul, type Tensor, transpose } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';
import { fp8Rows } from './fewer_bits.js';

export const linears: ReferenceKernel<'Linears'> = ([x, ...weights], { precision }) => {
  const rows = (one: Tensor) => (precision === 'fp8' ? fp8Rows(one) : one);
  const left = rows(x);
  return weights.map((weight) => matMul(left, rows(weight), false, true));
};

export const linearsGrad: ReferenceKernel<'LinearsGrad'> = (inputs, { precision }) => {
  const dys = inputs.filter((_, i) => i % 2 === 0);
  const weights = inputs.filter((_, i) => i % 2 === 1);
  if (precision !== 'fp8') return [addN(dys.map((dy, i) => matMul(dy, weights[i]!)))];
  return [matMul(fp8Rows(concat(dys, 1)), fp8Rows(transpose(concat(weights, 0))), false, true)];
};

export const weightGrads: ReferenceKernel<'WeightGrads'> = ({ x, ...others }) =>
  gradientsOf(others).map(({ dy, sum }) => {
    const dWeight = matMul(dy, x, true, false);
    return sum ? add(sum, dWeight) : dWeight;
  });

/** WeightGrads' inputs dy0, sum0, dy1, … in pairs. */
export function gradientsOf<T>(inputs: { readonly [name: `${'dy' | 'sum'}${number}`]: T }): { dy: T; sum?: T }[] {
  const count = Object.keys(inputs).filter((name) => name.startsWith('dy')).length;
  return Array.from({ length: count }, (_, i) => {
    const sum = inputs[`sum${i}`];
    return { dy: inputs[`dy${i}`]!, ...(sum === undefined ? {} : { sum }) };
  });
}
