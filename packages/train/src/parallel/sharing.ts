// What the training loop needs of processes that share the optimizer's state (ZeRO-1) instead of each having all of it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { globalNorm } from '@stickbreaking/core';
import type { LlamaModel, Recompute, TokenBatch } from '@stickbreaking/model';
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import type { BatchGradients } from '../batch_gradients.js';
import { type Collective, shareOf } from '../collective.js';

/** A whole tensor; its values are there on the first process alone. */
export interface WholeTensor {
  name: string;
  shape: number[];
  values?: Float32Array;
}

/** The weights of a model as one of several processes has them. */
export interface SharedWeights {
  /** What this process updates: parts of the parameters, by their names. */
  readonly owned: ReadonlyMap<string, Variable>;
  /** Zeros to which a step's gradients are added. */
  zeroSums(): Map<string, Tensor>;
  /** Takes a gradient that is complete for a micro-batch; in the last one the sum over all processes may begin. */
  settle(name: string, gradient: Tensor, isLast: boolean): Tensor;
  /** Ends the sums. All gradients are consumed; the result belongs to `owned`. */
  finishSums(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor>;
  /** Those of the sums that count once over all processes. */
  countedOnce(sums: ReadonlyMap<string, Tensor>): Tensor[];
  /** Brings what each process has updated to all others. */
  gatherWeights(): void;
  /** Whole tensors of parts like those of `owned`, in the order of the parameters: every process must take all of them. */
  whole(parts: ReadonlyMap<string, Tensor>): Iterable<WholeTensor>;
  /** This process's part of a whole tensor's values. */
  partOf(name: string, values: Float32Array): Float32Array;
  /** The shape of the whole tensor that `owned` has a part of. */
  shapeOf(name: string): number[];
}

/** `batchGradients` of processes that share weights: the gradients are those of `owned`. */
export async function sharedGradients(
  model: LlamaModel,
  batches: readonly TokenBatch[],
  weights: SharedWeights,
  collective: Collective,
  { scale, signal, recompute }: { scale: number; signal?: AbortSignal | undefined; recompute?: Recompute | undefined },
): Promise<BatchGradients | undefined> {
  const own = shareOf(batches, collective);
  let gradients = weights.zeroSums();
  const losses: Tensor[] = [];
  for (const [i, batch] of own.entries()) {
    if (signal?.aborted) break;
    const isLast = i === own.length - 1;
    const result = model.gradients(batch, {
      ...{ scale, sums: gradients, ...(recompute ? { recompute } : {}) },
      onReady: (name, gradient) => weights.settle(name, gradient, isLast),
    });
    losses.push(result.loss);
    gradients = result.gradients;
    await nextTurn(); // signals and timers get their turn here
  }
  // Where one process gives the step up, it still takes part in the sums, and then all do.
  const sums = weights.finishSums(gradients);
  const norm = globalNorm(weights.countedOnce(sums));
  const values = await Promise.all(losses.map((loss) => loss.data()));
  const [ownNorm] = await norm.data();
  for (const one of [...losses, norm]) one.dispose();
  const ownLoss = values.reduce((sum, [loss]) => sum + loss!, 0);
  const all = await collective.sumNumbers([signal?.aborted ? 1 : 0, ownLoss, ownNorm! ** 2]);
  const [stopped, loss, squares] = all as [number, number, number];
  if (stopped) {
    for (const one of sums.values()) one.dispose();
    return undefined;
  }
  return { loss, gradients: sums, gradientNorm: Math.sqrt(squares) };
}
