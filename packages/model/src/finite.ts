/** Weights from elsewhere that are not finite: nothing can be computed from them. */
import { globalNorm } from '@stickbreaking/core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { LlamaModel } from './model.js';
import { RefusedCheckpoint } from './refused_checkpoint.js';

/**
 * Looks at all weights together, and for the first that is not finite only if there is one.
 *
 * @param directory that they were loaded from
 * @throws RefusedCheckpoint that names it
 */
export async function checkFinite({ parameters }: Pick<LlamaModel, 'parameters'>, directory: string): Promise<void> {
  if (Number.isFinite(await normOf([...parameters.values()]))) return;
  for (const [name, parameter] of parameters) {
    if (Number.isFinite(await normOf([parameter]))) continue;
    throw new RefusedCheckpoint(
      `${directory}: the weights '${name}' are not finite, so nothing can be computed from them.`,
      directory,
    );
  }
}

async function normOf(tensors: Tensor[]): Promise<number> {
  const norm = globalNorm(tensors);
  const [value] = await norm.data();
  norm.dispose();
  return value!;
}
