import { type Scalar, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { runKernel } from '../run_kernel.js';

/** The Euclidean norm of all elements of all tensors together; not differentiable. */
export function globalNorm(tensors: readonly Tensor[]): Scalar {
  const inputs = Object.fromEntries(tensors.map((tensor, i) => [`x${i}`, tensor]));
  return tidy(() => runKernel('GlobalNorm', inputs, {})[0] as Scalar);
}
