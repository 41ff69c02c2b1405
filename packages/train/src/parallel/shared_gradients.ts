// The gradients of one optimizer step where processes share the optimizer's state: summed while the backward goes on.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { globalNorm } from '@stickbreaking/core';
import { type ComputeOptions, type LlamaModel, scoredTokens, type TokenBatch } from '@stickbreaking/model';
import { dispose, type Tensor } from '@tensorflow/tfjs-core';
import type { Collective } from '../collective.js';
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
  const { rank, size } = collective;
  const rounds = Math.ceil(batches.length / size);
  weights.beginStep();
  let gradients: Map<string, Tensor> | undefined;
  const losses: Tensor[] = [];
  const routings = new RoutingSums(model.config);
  for (let round = 0; round < rounds; round++) {
    gradients = weights.beginBatch(gradients, round === rounds - 1);
    const own = signal?.aborted ? undefined : batches[round * size + rank];
    // Where a pass gathers weights, a process without a micro-batch makes one that counts for nothing.
    const batch = own ?? (collective.passesTogether ? batches[0] : undefined);
    if (batch) {
      const result = model.gradients(batch, {
        ...{ scale: own ? scale : 0, sums: gradients, ...compute },
        onReady: (name, gradient) => weights.settle(name, gradient),
      });
      losses.push(result.loss);
      if (own) routings.add(result.routing, scale * scoredTokens(own));
      else if (result.routing) dispose(result.routing);
      gradients = result.gradients;
      await nextTurn(); // signals and timers get their turn here
    }
    weights.endBatch();
  }
  // Where one process gives the step up, it still takes part in the sums, and then all do.
  const sums = weights.finishSums(gradients!);
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
