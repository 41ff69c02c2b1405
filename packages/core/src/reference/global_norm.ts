/** The norm of many tensors together in plain tfjs ops. */
import { addN, scalar, sqrt, sum } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const globalNorm: ReferenceKernel<'GlobalNorm'> = (inputs) => {
  const squares = Object.values(inputs).map((tensor) => sum(tensor.square()));
  return [squares.length === 0 ? scalar(0) : sqrt(addN(squares))];
};
