// What a run needs of its GPUs: memory, traffic between them and time, and the settings that would fit where it does not.
// The rates are those that H100s measured (benchmarks/, docs/performance.md).
import { formatBytes } from '@stickbreaking/base';
import {
  countActiveParameters,
  countParameters,
  countRoutedParameters,
  estimateTrainingMemory,
  type Recompute,
  trainingFlopsPerToken,
} from '@stickbreaking/model';
import { SHARDS, type Shard } from './collective.js';
import { refusal } from './parallel/permitted.js';
import { residualTypeOf } from './residual_type.js';
import { type RunConfig, stageSizes } from './run_config.js';

export interface GpuPlan {
  gpus: number;
  /** of one GPU, at the peak of a step */
  memoryBytes: number;
  /** of one GPU, that no tensor has: see `besides` */
  besidesBytes: number;
  /** of one GPU */
  capacityBytes: number;
  /** that each GPU sends in an optimizer step */
  trafficBytes: number;
  /** of all GPUs, on H100s, over all stages */
  tokensPerSecond: number;
  /** of a GPU's bfloat16 peak the share that the model's own work is (`trainingFlopsPerToken`), on H100s */
  utilisation: number;
  /** the fastest settings that fit, as overrides; null where these settings fit, or none do */
  instead: string[] | null;
}

/** The driver's context and what its memory pool leaves unused, on a GPU of its own. */
const BESIDES_ONE = 1.5 * 2 ** 30;
/** The context and NCCL's buffers, where there are several: 1.6 GiB of H100s. */
const BESIDES_SEVERAL = 2 * 2 ** 30;
/** What the pool has there of its largest need and cannot give to another tensor: up to 4.8 % of H100s, of mixtures. */
const GAPS = 0.05;
const H100_FLOPS = 989e12;
/** Bytes a second that a GPU reads and writes, and that it sends to others on its host. */
const MEMORY_RATE = 2.5e12;
const LINK_RATE = 300e9;
/** Of a mixture of experts, to a dense layer as wide as the experts that a token passes (benchmarks/cuda-moe.json). */
const MIXTURE_COST = 1.44;

/** A stage of a run, and what is chosen so that it fits. */
interface Size {
  steps: number;
  microBatchTokens: number;
  batchTokens: number;
  contextLength: number;
  recompute: Recompute;
  shard: Shard;
}

export function planGpus(config: RunConfig, gpus: number, capacity: number): GpuPlan {
  const sizes = sizesOf(config);
  const size = largest(config, gpus);
  const memoryBytes = memoryOf(config, size, gpus);
  const tokens = sum(sizes, (stage) => stage.steps * stage.batchTokens);
  const seconds = sum(sizes, (stage) => stage.steps * secondsOf(config, stage, gpus));
  const flops = sum(
    sizes,
    (stage) => stage.steps * stage.batchTokens * trainingFlopsPerToken(config.model, stage.contextLength),
  );
  return {
    gpus,
    memoryBytes,
    besidesBytes: Math.round(besides(memoryBytes, gpus)),
    capacityBytes: capacity,
    trafficBytes: Math.round(trafficOf(config, size, gpus)),
    tokensPerSecond: Math.round(tokens / seconds),
    utilisation: flops / seconds / (gpus * H100_FLOPS),
    instead: fits(memoryBytes, gpus, capacity) ? null : (cheapest(config, gpus, capacity) ?? null),
  };
}

const sum = <T>(all: readonly T[], of: (one: T) => number): number => all.reduce((total, one) => total + of(one), 0);

/** Bytes of a GPU that the driver, NCCL and gaps between tensors take beside the tensors' own. */
function besides(bytes: number, gpus: number): number {
  return gpus > 1 ? BESIDES_SEVERAL + GAPS * bytes : BESIDES_ONE;
}

/** What takes it, in words. */
export const besideTensors = (gpus: number): string => `the driver${gpus > 1 ? ', NCCL' : ''} and gaps between tensors`;

function fits(bytes: number, gpus: number, capacity: number): boolean {
  return bytes + besides(bytes, gpus) <= capacity;
}

/** The end of a message about too little memory: the cheapest settings that fit, of those that are not set already. */
export function adviceToFit(config: RunConfig, gpus: number, capacity: number): string {
  // What was asked for did not fit, whatever the estimate says: only less is worth a try.
  const before = memoryOf(config, largest(config, gpus), gpus);
  const instead = cheapest(config, gpus, capacity, before);
  if (instead) return `by the estimate it fits with ${instead.join(' ')}`;
  const more = [2, 4, 8, 16, 32, 64].find(
    (count) =>
      count > gpus && refusal(config, 'cuda', count) === undefined && cheapest(config, count, capacity, before),
  );
  if (more)
    return `by the estimate it fits with --gpus ${[more, ...cheapest(config, more, capacity, before)!].join(' ')}`;
  const where = config.parallel.orderedSums ? ' on at most 8 GPUs, as parallel.orderedSums is set' : '';
  return `by the estimate no setting makes it fit${where}: take a smaller model, or a shorter context`;
}

/** One line where the GPUs do not have the memory that the run needs. */
export function gpuMemoryFault(
  config: RunConfig,
  { gpus, memoryBytes, besidesBytes, capacityBytes }: GpuPlan,
): string | undefined {
  if (fits(memoryBytes, gpus, capacityBytes)) return undefined;
  const each = gpus > 1 ? 'each GPU' : 'the GPU';
  // Without it the line would contradict itself.
  const more = memoryBytes > capacityBytes ? '' : `, beside ${formatBytes(besidesBytes)} for ${besideTensors(gpus)}`;
  return (
    `The run takes about ${formatBytes(memoryBytes)} of ${each}, which has ${formatBytes(capacityBytes)}${more}; ` +
    `${adviceToFit(config, gpus, capacityBytes)}.`
  );
}

function sizesOf(config: RunConfig): Size[] {
  const { recompute, parallel } = config;
  const shard = parallel.shard ?? 'optimizer';
  return stageSizes(config).map((stage) => ({ ...stage, recompute, shard }));
}

/** The stage that takes the most memory: of those with equal micro-batches the one with the longest context. */
function largest(config: RunConfig, gpus: number): Size {
  const sized = sizesOf(config).map((size) => ({ size, bytes: memoryOf(config, size, gpus) }));
  return sized.reduce((most, one) => (one.bytes > most.bytes ? one : most)).size;
}

function memoryOf(config: RunConfig, size: Size, gpus: number): number {
  const { microBatchTokens, contextLength, recompute, shard } = size;
  const accumulates = roundsOf(config, size, gpus) > 1;
  return estimateTrainingMemory(config.model, {
    ...{ tokens: microBatchTokens, contextLength, recompute, accumulates, gpus, shard },
    ...{
      context: config.parallel.context,
      contextBy: config.parallel.contextBy,
      orderedSums: config.parallel.orderedSums,
      reduceType: config.parallel.reduceType,
      precision: config.precision,
      residualType: residualTypeOf(config),
      momentType: config.optimizer.momentType,
    },
  }).total;
}

/** Micro-batches that a GPU works on in a step, whole or its part of a sequence. */
function roundsOf({ parallel }: RunConfig, { batchTokens, microBatchTokens }: Size, gpus: number): number {
  return Math.ceil(batchTokens / microBatchTokens / Math.max(1, gpus / parallel.context));
}

/**
 * Bytes that a GPU sends in an optimizer step: gradients as they are reduced, weights in bfloat16; and where several share a
 * sequence, queries, keys, values and outputs of its tokens, forward and backward.
 */
function trafficOf(config: RunConfig, size: Size, gpus: number): number {
  const { model, parallel } = config;
  const batches = roundsOf(config, size, gpus);
  const { context, contextBy } = parallel;
  const { numLayers, numHeads, numKvHeads, headDim } = model;
  const tokens = (size.microBatchTokens / context) * batches * numLayers * (context - 1);
  const exchanged =
    contextBy === 'ring'
      ? // If no stick ends before: forward, backward, and their gradients in float32.
        tokens * 2 * numKvHeads * headDim * (2 + 2 + 4)
      : (tokens * 2 * 2 * 2 * (numHeads + numKvHeads) * headDim) / context;
  // Sums in order are made of every micro-batch's.
  const sums = parallel.orderedSums ? batches : 1;
  const one = parallel.reduceType === 'bfloat16' ? 2 : 4;
  const bytes = { optimizer: one * sums + 2, gradients: one * batches + 2, weights: (one + 2 * 2) * batches }[
    size.shard
  ];
  return (bytes * countParameters(model) * (gpus - 1)) / gpus + exchanged;
}

/** An optimizer step's time: what a token costs, what every micro-batch adds to the gradients, the update, the traffic. */
function secondsOf(config: RunConfig, size: Size, gpus: number): number {
  const { model } = config;
  const { microBatchTokens, contextLength, recompute } = size;
  const parameters = countParameters(model);
  // As many as cost what routing, gathering and adding up cost too.
  const active = countActiveParameters(model) + (MIXTURE_COST - 1) * countRoutedParameters(model);
  const attention = 6 * model.numLayers * model.numHeads * model.headDim * contextLength;
  const again = { none: 0, attention: attention / 3 + active / 3, block: (6 * active + attention) / 3 }[recompute];
  // Narrow layers keep the matrix units less busy: measured at 1,024 and 1,536 units.
  const efficiency = model.hiddenSize >= 1536 ? 0.495 : 0.43;
  const perToken = (6 * active + attention + again) / (efficiency * H100_FLOPS);
  const microBatch = (microBatchTokens / config.parallel.context) * perToken + (8 * parameters) / MEMORY_RATE;
  const shared = trafficOf(config, size, gpus) / LINK_RATE;
  return roundsOf(config, size, gpus) * microBatch + (28 * parameters) / gpus / MEMORY_RATE + shared;
}

type Chosen = Pick<Size, 'microBatchTokens' | 'recompute' | 'shard'>;

/** The fastest settings with which every stage's memory fits, and is less than `below`, as overrides of those that are not set already. */
function cheapest(config: RunConfig, gpus: number, capacity: number, below = Infinity): string[] | undefined {
  const sizes = sizesOf(config);
  const now = largest(config, gpus);
  const cut = (size: Size, tokens: number) => ({ ...size, microBatchTokens: Math.min(size.microBatchTokens, tokens) });
  const possible = ({ batchTokens, microBatchTokens, contextLength }: Size) =>
    microBatchTokens >= contextLength &&
    batchTokens % microBatchTokens === 0 &&
    microBatchTokens % config.parallel.context === 0;
  const most = Math.max(...sizes.map(({ microBatchTokens }) => microBatchTokens));
  const micro: number[] = [];
  for (let tokens = most; sizes.every((size) => possible(cut(size, tokens))); tokens /= 2) micro.push(tokens);
  // As they are, or with less on each GPU.
  const shards = (gpus > 1 ? SHARDS.slice(SHARDS.indexOf(now.shard)) : [now.shard]).filter(
    // A run that generates or scores tasks has them all between passes.
    (shard) => shard !== 'weights' || !(config.samples || config.evaluation),
  );
  const candidates = micro.flatMap((microBatchTokens) =>
    (['none', 'attention', 'block'] as const).flatMap((recompute) =>
      shards.map((shard) => ({ microBatchTokens, recompute, shard })),
    ),
  );
  const best = candidates
    .map((chosen) => {
      const stages = sizes.map((size) => ({
        ...cut(size, chosen.microBatchTokens),
        recompute: chosen.recompute,
        shard: chosen.shard,
      }));
      return { chosen, stages, bytes: Math.max(...stages.map((size) => memoryOf(config, size, gpus))) };
    })
    .filter(({ bytes }) => bytes < below && fits(bytes, gpus, capacity))
    .map(({ chosen, stages }) => ({
      chosen,
      seconds: sum(stages, (size) => size.steps * secondsOf(config, size, gpus)),
    }))
    .reduce<{ chosen: Chosen; seconds: number } | undefined>(
      (a, b) => (a && a.seconds <= b.seconds ? a : b),
      undefined,
    );
  if (!best) return undefined;
  const { microBatchTokens, recompute, shard } = best.chosen;
  return [
    ...(shard === now.shard ? [] : [`parallel.shard=${shard}`]),
    ...(microBatchTokens === most ? [] : microBatchKeys(config, microBatchTokens)),
    ...(recompute === now.recompute ? [] : [`recompute=${recompute}`]),
  ];
}

/** The run's own key, and those of the stages that say otherwise. */
function microBatchKeys(config: RunConfig, tokens: number): string[] {
  const own = config.stages.flatMap((stage, i) =>
    (stage.microBatchTokens ?? 0) > tokens ? [`stages.${i}.microBatchTokens=${tokens}`] : [],
  );
  return config.microBatchTokens > tokens ? [`microBatchTokens=${tokens}`, ...own] : own;
}
