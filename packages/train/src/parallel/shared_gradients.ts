// The gradients of one optimizer step where processes share the optimizer's state: summed while the backward goes on.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { globalNorm } from '@stickbreaking/core';
import { type ComputeOptions, type LlamaModel, scoredTokens, type TokenBatch } from '@stickbreaking/model';
import {
  add,
  concat,
  dispose,
  mul,
  reshape,
  type Scalar,
  scalar,
  slice,
  sqrt,
  square,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tidy,
} from '@tensorflow/tfjs-core';
import { type Collective, groupsOf, partOf } from '../collective.js';
import { RoutingSums, type StepRouting } from '../routing.js';
import type { SharedWeights } from './shared_weights.js';

/** `batchGradients` of processes that share weights: the gradients are those of `owned`. */
export async function sharedGradients(
  model: LlamaModel,
  batches: readonly TokenBatch[],
  weights: SharedWeights,
  collective: Collective,
  {
    scale,
    signal,
    early,
    ...compute
  }: ComputeOptions & {
    scale: number;
    signal?: AbortSignal | undefined;
    early?: ((gradients: Map<string, Tensor>, norm: Scalar) => void) | undefined;
  },
): Promise<
  { loss: number; gradients: Map<string, Tensor>; gradientNorm: number; routing: StepRouting | undefined } | undefined
> {
  const { sequence } = collective;
  const group = groupsOf(collective);
  const rounds = Math.ceil(batches.length / group.count);
  weights.beginStep();
  let gradients: Map<string, Tensor> | undefined;
  const losses: Scalar[] = [];
  const routings = new RoutingSums(model.config);
  for (let round = 0; round < rounds; round++) {
    gradients = weights.beginBatch(gradients, round === rounds - 1);
    // The others of a sequence wait in the middle of a pass.
    const own = signal?.aborted && !sequence ? undefined : batches[round * group.count + group.own];
    // Where a pass gathers weights, a process without a micro-batch makes one that counts for nothing.
    const batch = own ?? (collective.passesTogether ? batches[0] : undefined);
    if (batch) {
      const result = model.gradients(partOf(batch, collective), {
        ...{ scale: own ? scale : 0, sums: gradients, sequence, ...compute },
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
  const facts = factsOf(signal?.aborted ?? false, losses, rounds, () => weights.countedOnce(sums));
  dispose(losses);
  // Asked for before anything that `early` launches.
  const routed = routings.numbers();
  const all = collective.gather?.(facts);
  if (all && early) {
    const norm = normIn(all.rows, 1 + rounds);
    early(sums, norm);
    norm.dispose();
  }
  const own = all ? undefined : await facts.data();
  const rows = all ? await all.values : [await collective.sumNumbers([...own!])];
  dispose(all ? [facts, all.rows] : facts);
  const ownRouting = await routed;
  const routing = routings.of(ownRouting.length > 0 ? await collective.sumNumbers(ownRouting) : []);
  if (rows.some(([stopped]) => Number.isNaN(stopped))) {
    for (const one of sums.values()) one.dispose();
    return undefined;
  }
  // In the order of the micro-batches, and of the parts: the same on any number of processes.
  let [loss, squares] = [0, 0];
  for (let round = 0; round < rounds; round++) for (const row of rows) loss += row[1 + round]!;
  for (const row of rows) for (const one of row.slice(1 + rounds)) squares += one;
  return { loss, gradients: sums, gradientNorm: Math.sqrt(squares), routing };
}

/** What all processes are told of one: whether it gives the step up, its losses, squares of its gradients' norms. */
function factsOf(
  stopped: boolean,
  losses: readonly Scalar[],
  rounds: number,
  gradients: () => readonly (readonly Tensor[])[],
): Tensor1D {
  return tidy(() => {
    const none = Array.from({ length: rounds - losses.length }, () => scalar(0));
    const squares = gradients().map((group) => (group.length > 0 ? square(globalNorm(group)) : scalar(0)));
    // Not a number: an update on the device, which nobody can take back in time, then does nothing.
    const all = [scalar(stopped ? Number.NaN : 0), ...losses, ...none, ...squares];
    return concat(all.map((one) => reshape(one, [1]) as Tensor1D));
  });
}

/** The norm of all processes' gradients, from squares that begin at a column; not finite where anything before is not. */
function normIn(rows: Tensor2D, from: number): Scalar {
  return tidy(() => {
    const [size, columns] = rows.shape;
    const before = sum<Scalar>(slice(rows, [0, 0], [size, from]));
    const squares = sum<Scalar>(reshape(slice(rows, [0, from], [size, columns - from]), [-1]));
    return add<Scalar>(sqrt(squares), mul(before, 0));
  });
}
