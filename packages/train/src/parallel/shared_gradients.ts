// The gradients of one optimizer step where processes share the optimizer's state: summed while the backward goes on.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { globalNorm } from '@stickbreaking/core';
import { type ComputeOptions, type LlamaModel, scoredTokens, type TokenBatch } from '@stickbreaking/model';
import type { Tensor } from '@tensorflow/tfjs-core';
import { type Collective, shareOf } from '../collective.js';
import { type RoutingMetrics, RoutingSums } from '../routing.js';
import type { SharedWeights } from './shared_weights.js';

/** `batchGradients` of processes that share weights: the gradients are those of `owned`. */
export async function sharedGradients(
  model: LlamaModel,
  batches: readonly TokenBatch[],
  weights: SharedWeights,
  collective: Collective,
  { scale, signal, ...compute }: ComputeOptions & { scale: number; signal?: AbortSignal | undefined },
): Promise<
  | { loss: number; gradients: Map<string, Tensor>; gradientNorm: number; routing: RoutingMetrics | undefined }
  | undefined
> {
  const own = shareOf(batches, collective);
  let gradients = weights.zeroSums();
  const losses: Tensor[] = [];
  const routings = new RoutingSums(model.config);
  for (const [i, batch] of own.entries()) {
    if (signal?.aborted) break;
    const isLast = i === own.length - 1;
    const result = model.gradients(batch, {
      ...{ scale, sums: gradients, ...compute },
      onReady: (name, gradient) => weights.settle(name, gradient, isLast),
    });
    losses.push(result.loss);
    routings.add(result.routing, scale * scoredTokens(batch));
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
  const numbers = [signal?.aborted ? 1 : 0, ownLoss, ownNorm! ** 2];
  const all = await collective.sumNumbers([...numbers, ...(await routings.numbers())]);
  const [stopped, loss, squares, ...routed] = all as [number, number, number, ...number[]];
  if (stopped) {
    for (const one of sums.values()) one.dispose();
    return undefined;
  }
  return { loss, gradients: sums, gradientNorm: Math.sqrt(squares), routing: routings.metrics(routed) };
}
