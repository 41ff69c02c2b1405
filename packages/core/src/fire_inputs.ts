/** FIRE's inputs of the softmax kernels, present only with bias 'fire'. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { FireInputs } from './kernels.js';

/** In the order of their gradients. */
export const fireInputNames = [
  'fireW1',
  'fireB1',
  'fireW2',
  'fireB2',
  'fireC',
  'fireThreshold',
] as const satisfies readonly (keyof FireInputs)[];

/**
 * The six, in their order.
 *
 * @throws Error if one is missing, which is a bug
 */
export function fireInputsOf<T extends TensorInfo>(inputs: { [Name in keyof FireInputs]?: T }): T[] {
  return fireInputNames.map((name) => {
    const tensor = inputs[name];
    if (!tensor) throw new Error(`softmax attention with bias 'fire' was given no ${name}`);
    return tensor;
  });
}
