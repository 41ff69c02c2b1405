/** Numbers from elsewhere that are not finite: nothing can be computed from them. */
import { globalNorm } from '@stickbreaking/core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { RefusedCheckpoint } from './refused_checkpoint.js';

/**
 * Looks at all tensors together, and for the first that is not finite only if there is one.
 *
 * @param directory that they were loaded from
 * @param what they are, as a message names them
 * @throws RefusedCheckpoint that names it
 */
export async function checkFinite(
  { parameters }: { parameters: ReadonlyMap<string, Tensor> },
  directory: string,
  what = 'weights',
): Promise<void> {
  if (await areFinite([...parameters.values()])) return;
  for (const [name, parameter] of parameters) {
    if (!(await areFinite([parameter]))) throw notFinite(directory, `the ${what} '${name}'`);
  }
}

/** Whether all numbers of all tensors are finite, as far as their norm says: the sum of their squares has to be finite too. */
export async function areFinite(tensors: readonly Tensor[]): Promise<boolean> {
  const norm = globalNorm([...tensors]);
  const [value] = await norm.data();
  norm.dispose();
  return Number.isFinite(value);
}

/**
 * Looks at numbers that were read from a checkpoint.
 *
 * @param what they are, as a message names them
 * @throws RefusedCheckpoint where one is not finite
 */
export function checkFiniteNumbers(values: Float32Array, directory: string, what: string): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * 0; // NaN of what is not finite; there may be billions
  if (sum !== 0) throw notFinite(directory, what);
}

const notFinite = (directory: string, what: string) =>
  new RefusedCheckpoint(`${directory}: ${what} are not finite, so nothing can be computed from them.`, directory);
