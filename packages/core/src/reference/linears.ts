/** Several matmuls of one input in plain tfjs ops. */
import { add, addN, matMul } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const linears: ReferenceKernel<'Linears'> = ([x, ...weights]) =>
  weights.map((weight) => matMul(x!, weight, false, true));

export const linearsGrad: ReferenceKernel<'LinearsGrad'> = (inputs) => [
  addN(inputs.flatMap((dy, i) => (i % 2 === 0 ? [matMul(dy, inputs[i + 1]!)] : []))),
];

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
