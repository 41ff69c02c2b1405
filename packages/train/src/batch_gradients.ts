// The gradients of one optimizer step: summed over its micro-batches, each weighted by the tokens it scores.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { globalNorm } from '@stickbreaking/core';
import {
  type ComputeOptions,
  type LlamaModel,
  type LossAndGradients,
  scoredTokens,
  type TokenBatch,
} from '@stickbreaking/model';
import { add, mul, type Scalar, scalar, type Tensor, tidy, zerosLike } from '@tensorflow/tfjs-core';
import { type Collective, groupsOf, oneProcess, partOf, shareOf } from './collective.js';
import { decays } from './optimizer.js';
import { sharedGradients } from './parallel/shared_gradients.js';
import type { SharedWeights } from './parallel/shared_weights.js';
import { RoutingSums, type StepRouting } from './routing.js';

/** The gradients of one optimizer step. */
export interface BatchGradients {
  /** mean negative log-likelihood of the scored tokens, in nats */
  loss: number;
  gradients: Map<string, Tensor>;
  /** the gradients' Euclidean norm, all parameters together */
  gradientNorm: number;
  /** of a model with experts */
  routing: StepRouting | undefined;
}

/**
 * The mean loss of the batches' scored tokens and its gradients, or undefined if `signal` was aborted meanwhile. With
 * several processes, each is given all batches, computes its own share and gets the loss and gradients of the whole, or
 * of its part of shared weights.
 */
export async function batchGradients(
  model: LlamaModel,
  batches: readonly TokenBatch[],
  {
    signal,
    recompute,
    precision,
    countsBefore,
    residualType,
    collective = oneProcess,
    weights,
    early,
  }: ComputeOptions & {
    signal?: AbortSignal | undefined;
    collective?: Collective | undefined;
    weights?: SharedWeights | undefined;
    /**
     * Called with the gradients and their norm before the host knows loss and norm, where one process has both or a device
     * does: what it asks of that keeps it at work meanwhile. This norm is not finite either where the loss is not, or
     * where the step is given up.
     */
    early?: ((gradients: Map<string, Tensor>, norm: Scalar) => void) | undefined;
  } = {},
): Promise<BatchGradients | undefined> {
  const scale = 1 / Math.max(1, scoredIn(batches));
  if (weights)
    return await sharedGradients(model, batches, weights, collective, {
      scale,
      signal,
      recompute,
      precision,
      residualType,
      countsBefore,
      early,
    });
  const routings = new RoutingSums(model.config);
  let sum: { loss: Scalar; gradients: Map<string, Tensor> } | undefined;
  const { sequence } = collective;
  for (const batch of shareOf(batches, collective)) {
    if (signal?.aborted && !sequence) break; // the others of a sequence wait in the middle of a pass
    const options = { scale, sums: sum?.gradients, recompute, precision, residualType, countsBefore, sequence };
    const { loss, gradients, routing }: LossAndGradients = model.gradients(batch, options);
    routings.add(routing, scale * scoredTokens(batch));
    sum = { loss: sum ? addTo(sum.loss, loss) : loss, gradients };
    await nextTurn(); // kernels keep the thread; signals and timers get their turn here
  }
  const { loss, gradients: own } = sum ?? nothing(model);
  // Where one process gives the step up, all do.
  const [stopped] = await collective.sumNumbers([signal?.aborted ? 1 : 0]);
  if (stopped) {
    loss.dispose();
    disposeAll(own);
    routings.dispose();
    return undefined;
  }
  const areMatrices = [...own].map(([name, { rank }]) => decays(name, rank));
  const sums = await collective.sumTensors([...own.values()], (i) => areMatrices[i]!);
  const gradients = new Map([...own.keys()].map((name, i) => [name, sums[i]!]));
  const norm = globalNorm(sums);
  // Asked for before anything that `early` launches.
  const values = Promise.all([loss.data(), norm.data(), routings.numbers()]);
  if (early && collective.size === 1) {
    const both = tidy(() => add<Scalar>(norm, mul(loss, 0)));
    early(gradients, both);
    both.dispose();
  }
  const [lossValues, normValues, ownRouting] = await values;
  loss.dispose();
  norm.dispose();
  const [meanLoss, ...routed] = await collective.sumNumbers([lossValues[0]!, ...ownRouting]);
  return { loss: meanLoss!, gradients, gradientNorm: normValues[0]!, routing: routings.of(routed) };
}

/** What a process without a share of a step contributes. */
function nothing(model: LlamaModel): { loss: Scalar; gradients: Map<string, Tensor> } {
  return { loss: scalar(0), gradients: new Map([...model.parameters].map(([name, one]) => [name, zerosLike(one)])) };
}

/**
 * The mean loss of the batches' scored tokens, in nats, without gradients. Several processes work every `size`-th batch
 * each, and add the batches' sums in order: the same number however many there are.
 */
export async function meanLoss(
  model: LlamaModel,
  batches: Iterable<TokenBatch>,
  collective: Collective = oneProcess,
): Promise<number> {
  const sums: number[] = [];
  let scored = 0;
  let last: TokenBatch | undefined;
  const { own, count } = groupsOf(collective);
  const { sequence } = collective;
  for (const batch of batches) {
    let sum = 0;
    if (sums.length % count === own) {
      const losses = model.tokenLosses(partOf(batch, collective), { sequence });
      for (const loss of await losses.data()) sum += loss;
      losses.dispose();
      await nextTurn();
    }
    sums.push(sum);
    scored += scoredTokens(batch);
    last = batch;
  }
  const rest = sums.length % count;
  // Where a pass gathers weights, all processes make as many.
  if (collective.passesTogether && last && rest > 0 && own >= rest)
    model.tokenLosses(partOf(last, collective), { sequence }).dispose();
  const all = await collective.sumNumbers(sums);
  return all.reduce((sum, one) => sum + one, 0) / scored;
}

export function disposeAll(tensors: ReadonlyMap<string, Tensor>): void {
  for (const tensor of tensors.values()) tensor.dispose();
}

function scoredIn(batches: readonly TokenBatch[]): number {
  return batches.reduce((scored, batch) => scored + scoredTokens(batch), 0);
}

/** The sum of both, which are consumed. */
function addTo<T extends Tensor>(sum: T, part: Tensor): T {
  const result = add(sum, part) as T;
  sum.dispose();
  part.dispose();
  return result;
}
