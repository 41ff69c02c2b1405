// A run as its configuration describes it: everything is checked, the text is tokenized, the model trains.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { formatBytes, OutOfMemoryError, UserError } from '@stickbreaking/base';
import { checkDirectory, lockOrRefuse } from '@stickbreaking/base/node';
import { findFiles, openTokenizer, type PrepareProgress, type Tokenizer } from '@stickbreaking/data';
import { estimateMemory, hostMemory, resolveCheckpoint } from '@stickbreaking/model';
import { getBackend } from '@tensorflow/tfjs-core';
import { storeToRead } from './checkpoint.js';
import type { Collective } from './collective.js';
import { type OpenTaskScorer, openEvaluation } from './evaluation.js';
import { adviceToFit } from './gpu_plan.js';
import { checkContext } from './parallel/permitted.js';
import { intactToResume } from './resume.js';
import { type RunConfig, stageSizes } from './run_config.js';
import { dataIdentity, RunData, sourcesOf } from './run_data.js';
import { samplingOf } from './samples.js';
import { namingAnother } from './sound.js';
import { checkIntactStart, type Start, startOfSchema } from './start.js';
import type { TrainHooks, TrainOptions, TrainResult } from './train_options.js';
import { train } from './trainer.js';

/** Options of `runTraining` that are not part of the run's file. */
export interface RunOptions {
  resume?: boolean;
  /** Check the checksums of the checkpoint that the run goes on or starts from; default true. */
  verify?: boolean;
  /** What the bits of results depend on, as the selected backend says. */
  arithmetic?: string;
  /** Bytes of the device's own memory, to say what would fit where it runs out. */
  deviceMemory?: number | undefined;
  /** The processes that share the run; default: this one alone. */
  collective?: Collective;
  signal?: AbortSignal;
  hooks?: TrainHooks;
  /** Opens what scores the tasks of the run's `evaluation`. */
  openTaskScorer?: OpenTaskScorer | undefined;
  /** Called as text is tokenized. */
  onTokenize?: (progress: PrepareProgress) => void;
}

/**
 * Trains what `config` describes on tfjs's active backend.
 *
 * @throws UserError if something is missing or wrong; nothing has been written then
 */
export async function runTraining(config: RunConfig, options: RunOptions = {}): Promise<TrainResult> {
  return await namingAnother({ ...options, directory: config.output }, () => checkedRun(config, options));
}

async function checkedRun(config: RunConfig, options: RunOptions): Promise<TrainResult> {
  checkContext(config, options.collective?.size ?? 1);
  const tokenizer = openRunTokenizer(config);
  const tooLittleMemory = memoryFault(config, getBackend());
  if (tooLittleMemory) throw new UserError(tooLittleMemory);
  checkOutput(config, options.resume ?? false);
  const described = await describeRun(config, tokenizer, options);
  await intactToResume(described);
  for (const source of sourcesOf(config)) await findFiles(source);
  const evaluation = await openEvaluation(config, tokenizer, options.openTaskScorer, options.collective);
  const isFirst = !options.collective || options.collective.rank === 0;
  const release = isFirst ? lockOrRefuse(config.output, 'trains') : () => {};
  let data: RunData | undefined;
  try {
    data = await RunData.prepare(config, tokenizer, { onProgress: options.onTokenize, signal: options.signal });
    const stages = described.stages.map((stage, i) => ({ ...stage, data: data!.stage(i) }));
    return await train({ ...described, stages, validation: data.validation(options.collective), evaluation });
  } catch (error) {
    throw explained(error, config, options);
  } finally {
    data?.close();
    release();
  }
}

/** Where the device's memory runs out, says what would fit. */
function explained(error: unknown, config: RunConfig, { deviceMemory, collective }: RunOptions): unknown {
  if (!(error instanceof OutOfMemoryError) || deviceMemory === undefined) return error;
  const message = `${error.message}; ${adviceToFit(config, collective?.size ?? 1, deviceMemory)}. The last checkpoint is safe.`;
  return new UserError(message, { cause: error });
}

/**
 * The run as `train` takes it, but for its data, of which only the places are filled.
 *
 * @param mostBytes that are read to explain what is wrong with the checkpoint that it starts from; default: no limit
 * @throws UserError where it is to start from what is no checkpoint of such a model
 */
export async function describeRun(
  config: RunConfig,
  tokenizer: Tokenizer | undefined,
  options: RunOptions,
  mostBytes?: number,
): Promise<TrainOptions> {
  const start = startOf(config, options.resume ?? false);
  const startFrom = start && { ...start, path: resolveCheckpoint(start.path) };
  if (startFrom) await checkIntactStart(config.model, startFrom, tokenizer, options.verify ?? true, mostBytes);
  const open = () => Promise.reject(new Error('the data has not been prepared'));
  return {
    model: config.model,
    seed: config.seed,
    recompute: config.recompute,
    precision: config.precision,
    residualType: config.residualType,
    reduceType: config.parallel.reduceType,
    optimizer: config.optimizer,
    stages: stageSizes(config).map((stage, i) => {
      const sources = config.stages[i]!.data;
      return { ...stage, data: sources && { open, identity: dataIdentity(config, sources) } };
    }),
    startFrom,
    directory: config.output,
    tokenizer,
    identity: { tokenizer: tokenizer?.hash },
    checkpoints: config.checkpoints,
    tensorboard: config.tensorboard,
    samples: config.samples && tokenizer && samplingOf(config.samples, tokenizer, config.seed),
    maxNonFiniteSteps: config.maxNonFiniteSteps,
    ...options,
  };
}

/** @throws UserError where there is none, or the model's vocabulary is too small for it */
export function openRunTokenizer(config: RunConfig): Tokenizer {
  const tokenizer = openTokenizer(config.tokenizer);
  const { vocabSize } = config.model;
  if (tokenizer.vocabSize <= vocabSize) return tokenizer;
  throw new UserError(
    `The tokenizer ${tokenizer.path} has ${tokenizer.vocabSize} tokens, more than the model's vocabulary ` +
      `(model.vocabSize is ${vocabSize}); raise model.vocabSize, or cut it down with 'sb-tokenizer shrink'.`,
  );
}

/** What the run is to start from, unless it goes on from a checkpoint of its own. */
export function startOf(config: RunConfig, resume: boolean): Start | undefined {
  if (config.startFrom === undefined || (resume && newestCheckpoint(config))) return undefined;
  return startOfSchema(config.startFrom);
}

/** The newest checkpoint of the run's directory. */
export const newestCheckpoint = ({ output }: RunConfig) => storeToRead(output).latest();

/** @throws UserError where the directory holds a run and this one is not to go on with it */
export function checkOutput(config: RunConfig, resume: boolean): void {
  checkDirectory(config.output);
  if (resume) return;
  const latest = newestCheckpoint(config);
  if (latest) {
    throw new UserError(
      `${config.output} holds a run already (its newest checkpoint is ${latest}); go on with it by --resume, or choose another output.`,
    );
  }
  if (existsSync(join(config.output, 'config.json'))) {
    throw new UserError(`${config.output} is a model's directory; choose another output for the run.`);
  }
}

/** Bytes of memory that training on the host takes at its largest. */
export function memoryOf(config: RunConfig): number {
  const tokens = Math.max(...stageSizes(config).map(({ microBatchTokens }) => microBatchTokens));
  return estimateMemory(config.model, { tokens, training: true, recompute: config.recompute });
}

/** One line if the machine does not have the memory that the run needs. */
export function memoryFault(config: RunConfig, backend: string): string | undefined {
  // A device has memory of its own, and reports when it runs out.
  if (backend === 'cuda' || backend === 'webgpu') return undefined;
  const needed = memoryOf(config);
  if (needed <= hostMemory()) return undefined;
  return (
    `The run takes about ${formatBytes(needed)} of memory, and this machine has ${formatBytes(hostMemory())}; ` +
    'lower microBatchTokens, or take a smaller model.'
  );
}
