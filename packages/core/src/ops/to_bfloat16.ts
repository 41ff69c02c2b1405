import { registerGradient, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { runKernel } from '../run_kernel.js';

/**
 * Each number rounded to the nearest bfloat16. A backend may keep the result in half the memory; numbers that are bfloat16
 * already stay what they are.
 */
export function toBfloat16<T extends Tensor>(x: T): T {
  return tidy(() => runKernel('ToBfloat16', { x }, {})[0] as T);
}

registerGradient({ kernelName: 'ToBfloat16', gradFunc: (dy) => ({ x: () => dy as Tensor }) });
