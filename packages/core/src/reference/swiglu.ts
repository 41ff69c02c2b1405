/** SwiGLU's gate in plain tfjs ops. */
import { mul, scalar, sigmoid } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const swiGlu: ReferenceKernel<'SwiGLU'> = ({ gate, up }) => [mul(mul(gate, sigmoid(gate)), up)];

export const swiGluGrad: ReferenceKernel<'SwiGLUGrad'> = ({ gate, up, dy }) => {
  const sigma = sigmoid(gate);
  // d silu(g)/dg = σ(g)·(1 + g·(1 − σ(g)))
  const slope = sigma.mul(gate.mul(scalar(1).sub(sigma)).add(1));
  return [dy.mul(up).mul(slope), dy.mul(gate).mul(sigma)];
};
