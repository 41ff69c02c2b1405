// What a run would do, without training: every check that a run makes, and the numbers people ask for.
import { existsSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { isHubAddress } from '@stickbreaking/base/node';
import type { SelectedBackend } from '@stickbreaking/core';
import { listFiles, openDataset, type SourceConfig, type Tokenizer } from '@stickbreaking/data';
import { countActiveParameters, countParameters, resolveCheckpoint } from '@stickbreaking/model';
import { type OpenTaskScorer, openEvaluation } from './evaluation.js';
import { type GpuPlan, gpuMemoryFault, planGpus } from './gpu_plan.js';
import { checkPermitted } from './parallel/permitted.js';
import { MOST_PLANNED_BYTES, soundToResume, soundToStart } from './resume.js';
import { checkOutput, describeRun, memoryFault, memoryOf, openRunTokenizer, startOf } from './run.js';
import type { RunConfig } from './run_config.js';
import { shardDirectory, sourcesOf } from './run_data.js';
import { learningRate } from './schedule.js';
import { namingAnother } from './sound.js';
import { secondsOfRun } from './speed.js';
import { type PlacedStage, placeStages, totalSteps, totalTokens } from './stage.js';

export interface StagePlan {
  name: string;
  steps: number;
  tokens: number;
  contextLength: number;
  batchTokens: number;
  microBatchTokens: number;
  schedule: string;
  /** The rate of a step, counted from 1 over the whole run, at a few points. */
  learningRates: { step: number; learningRate: number }[];
}

export interface SourcePlan {
  name: string;
  files: number;
  bytes: number;
  /** null: not tokenized yet */
  tokens: number | null;
}

export interface Plan {
  parameters: number;
  /** of them, those that a token passes: fewer where it has only some of the experts */
  activeParameters: number;
  backend: SelectedBackend;
  stages: StagePlan[];
  steps: number;
  tokens: number;
  /** How long it takes: from steps measured here, or reckoned for H100s; null where that is not known. */
  seconds: number | null;
  /** at its largest, estimated */
  memoryBytes: number;
  /** Where GPUs were asked for, or one is there. */
  gpu: GpuPlan | null;
  /** checkpoints at their most and token shards, estimated */
  diskBytes: number;
  diskFreeBytes: number | null;
  sources: SourcePlan[];
  /** the checkpoint that --resume would go on from */
  resumesFrom: string | null;
  /** the checkpoint whose weights a new run begins with */
  startsFrom: string | null;
  /** Of that checkpoint: whether its checksums were compared too, and not only what its files hold and their lengths. */
  checkpointVerified: boolean | null;
  /** What is missing and needed before the run can start, one line each. */
  missing: string[];
}

export interface PlanOptions {
  resume: boolean;
  /** Compare the checksums of the checkpoint that the run would go on or start from, unless it is very large; default true. */
  verify?: boolean;
  /** Plan for so many, which need not be there: H100s where none is. */
  gpus?: number | undefined;
  /** Where no GPUs are asked for: how many processes of the backend the run would be in; default 1. */
  processes?: number | undefined;
  /** Opens what scores the tasks of the run's `evaluation`, whose data are looked for. */
  openTaskScorer?: OpenTaskScorer | undefined;
}

/**
 * Plans a run.
 *
 * @throws UserError if something is wrong; what is merely missing is listed in `missing`
 */
export async function makePlan(config: RunConfig, backend: SelectedBackend, options: PlanOptions): Promise<Plan> {
  const { resume, verify } = options;
  const refusable = { directory: config.output, resume, verify };
  return await namingAnother(refusable, () => planRun(config, backend, options), MOST_PLANNED_BYTES);
}

async function planRun(
  config: RunConfig,
  backend: SelectedBackend,
  { resume, verify, gpus, processes, openTaskScorer }: PlanOptions,
): Promise<Plan> {
  checkPermitted(config, gpus === undefined ? backend.name : 'cuda', gpus ?? processes ?? 1);
  const missing: string[] = [];
  const noteMissing = (error: unknown): undefined => {
    if (!(error instanceof UserError && error.missing)) throw error;
    missing.push(error.message);
  };
  const orMissing = <T>(look: () => T): T | undefined => {
    try {
      return look();
    } catch (error) {
      return noteMissing(error);
    }
  };
  const tokenizer = orMissing(() => openRunTokenizer(config));
  const onGpus = gpus !== undefined || backend.name === 'cuda';
  const gpu = onGpus ? planGpus(config, gpus ?? 1, backend.deviceMemory ?? H100_MEMORY) : undefined;
  const tooLittleMemory = gpu ? gpuMemoryFault(config, gpu) : memoryFault(config, backend.name);
  if (tooLittleMemory) missing.push(tooLittleMemory);
  checkOutput(config, resume);
  const start = startOf(config, resume);
  const isHere = (path: string) =>
    isHubAddress(path) ? orMissing(() => resolveCheckpoint(path)) !== undefined : existsSync(path);
  const noStart = start !== undefined && !isHere(start.path);
  if (noStart && !isHubAddress(start.path)) missing.push(`startFrom: there is no checkpoint at ${start.path} yet.`);
  const begun = noStart ? { ...config, startFrom: undefined } : config;
  const described = await describeRun(begun, tokenizer, { resume, verify }, MOST_PLANNED_BYTES);
  const stages = placeStages(described.stages);
  const resumed = tokenizer && (await soundToResume(described));
  const startsFrom = start && !noStart ? resolveCheckpoint(start.path) : undefined;
  const startVerified = startsFrom === undefined ? null : await soundToStart(described, startsFrom);
  const sources = sourcesOf(config).flatMap((source) => orMissing(() => planSource(config, source, tokenizer)) ?? []);
  if (tokenizer) await openEvaluation(config, tokenizer, openTaskScorer, undefined).catch(noteMissing);
  const parameters = countParameters(config.model);
  const measured = gpu || tooLittleMemory ? undefined : await secondsOfRun(config, backend.name);
  const { plan: sourcePlans, shardBytes } = collect(sources);
  return {
    parameters,
    activeParameters: countActiveParameters(config.model),
    backend,
    stages: stages.map((_, i) => planStage(stages, i)),
    steps: totalSteps(stages),
    tokens: totalTokens(stages),
    seconds: gpu ? totalTokens(stages) / gpu.tokensPerSecond : (measured ?? null),
    memoryBytes: gpu?.memoryBytes ?? memoryOf(config),
    gpu: gpu ?? null,
    diskBytes: checkpointBytes(config, parameters) + shardBytes,
    diskFreeBytes: freeBytes(config.output),
    sources: sourcePlans,
    resumesFrom: resumed?.directory ?? null,
    startsFrom: startsFrom ?? start?.path ?? null,
    checkpointVerified: resumed?.isVerified ?? startVerified,
    missing,
  };
}

function planStage(stages: readonly PlacedStage[], index: number): StagePlan {
  const { name, steps, batchTokens, contextLength, microBatchTokens, schedule } = stages[index]!;
  const before = totalSteps(stages.slice(0, index));
  const points = [...new Set([0, 0.01, 0.1, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * (steps - 1))))];
  return {
    name,
    steps,
    tokens: steps * batchTokens,
    contextLength,
    batchTokens,
    microBatchTokens,
    schedule: schedule.kind,
    learningRates: points.map((step) => ({
      step: before + step + 1,
      learningRate: learningRate(stages, index, step),
    })),
  };
}

/** Of an H100 with 80 GB, by what the driver says; some is its own. */
const H100_MEMORY = 79.1 * 2 ** 30;

/** A rule of thumb for English and code: bytes of text that make a token, and of text in a compressed byte. */
const BYTES_PER_TOKEN = 4;
const COMPRESSION = 3;

function planSource(config: RunConfig, source: SourceConfig, tokenizer: Tokenizer | undefined) {
  const files = listFiles(source);
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  const directory = tokenizer && shardDirectory(config, source, tokenizer);
  const dataset = directory && existsSync(directory) ? openIfReady(directory) : undefined;
  const text = files.reduce(
    (sum, { size, format }) => sum + size * (format.includes('.') || format === 'parquet' ? COMPRESSION : 1),
    0,
  );
  const tokens = dataset?.tokens ?? null;
  dataset?.close();
  const tokenBytes = config.model.vocabSize > 65_536 ? 4 : 2;
  const name = source.name ?? [source.path].flat().join(', ');
  return {
    plan: { name, files: files.length, bytes, tokens },
    shardBytes: (tokens ?? text / BYTES_PER_TOKEN) * tokenBytes,
  };
}

function openIfReady(directory: string) {
  try {
    return openDataset(directory, { verify: false });
  } catch {
    return undefined; // not finished: the run goes on with it, or says what is wrong
  }
}

function collect(sources: readonly ReturnType<typeof planSource>[]) {
  return {
    plan: sources.map(({ plan }) => plan),
    shardBytes: Math.round(sources.reduce((sum, { shardBytes }) => sum + shardBytes, 0)),
  };
}

/** Weights and two moments in float32, for those that are kept, the best, and the one that is being written. */
function checkpointBytes({ checkpoints, validation }: RunConfig, parameters: number): number {
  const kept = checkpoints.keepLast + (validation && checkpoints.keepBest ? 1 : 0) + 1;
  return kept * parameters * 12;
}

/** Free bytes where the directory is, or would be made. */
function freeBytes(directory: string): number | null {
  let path = resolve(directory);
  while (!existsSync(path) && dirname(path) !== path) path = dirname(path);
  try {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  } catch {
    return null;
  }
}
