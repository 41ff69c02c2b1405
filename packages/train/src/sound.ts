// Whether a run can go on from a checkpoint: its parts must agree, and its files must be as they were saved.
import { dirname, join, resolve } from 'node:path';
import {
  checkFiniteNumbers,
  checkModelFiles,
  type LoadAsyncOptions,
  loadConfig,
  OPTIMIZER_FILE,
  parameterShapes,
  RefusedCheckpoint,
  readingCheckpoint,
  readingCheckpointAsync,
  readSafetensors,
  readSummed,
  type SafetensorsFile,
  STATE_FILE,
  withCheckpointInstead,
} from '@stickbreaking/model';
import { readState, storeToRead, type TrainingState } from './checkpoint.js';
import { firstDifference, say } from './identity.js';
import { saidModel } from './implied.js';
import { MOMENTS } from './optimizer.js';
import type { TrainOptions } from './train_options.js';

/** What messages call them. */
export const MOMENTS_SAID = "optimizer's moments";

/** The state of a checkpoint whose parts agree, as far as they can be told without its tensors. @throws RefusedCheckpoint */
export function readable(directory: string): TrainingState {
  const state = readState(directory);
  checkProgress(directory, state);
  checkModel(directory, state);
  return state;
}

/**
 * Looks at the tensors' files.
 *
 * @param finite look at the numbers too, which must be finite
 * @throws RefusedCheckpoint where one is cut, or has other tensors
 */
export function checkTensors(directory: string, { finite = false } = {}): void {
  checkModelFiles(directory, { finite });
  const shapes = [...parameterShapes(loadConfig(directory))];
  const moments = MOMENTS.flatMap((kind) => shapes.map(([name, shape]) => [`${kind}.${name}`, shape] as const));
  withMoments(directory, (file) => {
    for (const [name, shape] of moments) {
      checkMoment(directory, name, file.shape(name), shape);
      if (finite) checkFiniteNumbers(file.read(name), directory, `the ${MOMENTS_SAID} '${name}'`);
    }
  });
}

/** Reads the optimizer's tensors. @throws RefusedCheckpoint where their file is missing or damaged */
function withMoments(directory: string, read: (file: SafetensorsFile) => void): void {
  readingCheckpoint(directory, () => {
    const file = readSafetensors(join(directory, OPTIMIZER_FILE));
    try {
      read(file);
    } finally {
      file.close();
    }
  });
}

/**
 * Reads some of the optimizer's tensors, while the system's threads fetch those that follow.
 *
 * @param shapes of whole tensors, by the names that they are saved by
 * @throws RefusedCheckpoint where their file is missing or damaged, or one of them has another shape
 */
export async function readMoments(
  directory: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  take: (name: string, values: Float32Array) => void,
  { summed }: LoadAsyncOptions = {},
): Promise<void> {
  await readingCheckpointAsync(directory, async () => {
    const path = join(directory, OPTIMIZER_FILE);
    const file = readSafetensors(path);
    try {
      for (const [name, shape] of shapes) checkMoment(directory, name, file.shape(name), shape);
      await readSummed(path, file, take, { only: (name) => shapes.has(name), summed });
    } finally {
      file.close();
    }
  });
}

/** @throws RefusedCheckpoint where a saved moment has not its parameter's shape */
function checkMoment(directory: string, name: string, saved: readonly number[], shape: readonly number[]): void {
  if (saved.join() === shape.join()) return;
  throw new RefusedCheckpoint(
    `${directory}: '${name}' of the optimizer has shape [${saved}], not [${shape}].`,
    directory,
  );
}

/** How far the run had come must follow from its stages: a step that none of them has would never be the last. */
function checkProgress(directory: string, { step, tokens, updates, stage, stageStep, identity }: TrainingState): void {
  const listed = Array.isArray(identity.stages) ? identity.stages : [];
  const stages = listed as ({ steps?: number; batchTokens?: number } | null)[];
  const done = stages.slice(0, stage).map((one) => one?.steps ?? Number.NaN);
  if (stageStep > 0) done.push(stageStep);
  const steps = done.reduce((sum, one) => sum + one, 0);
  const seen = done.reduce((sum, one, i) => sum + one * (stages[i]?.batchTokens ?? Number.NaN), 0);
  if (steps === step && seen === tokens && updates <= step && stageStep <= (stages[stage]?.steps ?? 0)) return;
  throw new RefusedCheckpoint(
    `${join(directory, STATE_FILE)} is damaged: step ${step} (${tokens} tokens, ${updates} updates) is not where ` +
      `stage ${stage} has come to after ${stageStep} of its steps.`,
    directory,
  );
}

/** The model saved beside the state must belong to it. */
function checkModel(directory: string, { identity }: TrainingState): void {
  const difference = firstDifference(saidModel(identity.model ?? null), saidModel(loadConfig(directory)), ['model']);
  if (!difference) return;
  const { path, before, after } = difference;
  throw new RefusedCheckpoint(
    `The checkpoint ${directory} contradicts itself: ${path} is ${say(before)} in state.json and ${say(after)} in ` +
      'config.json; put config.json back as it was saved.',
    directory,
  );
}

/** What it takes to know which checkpoint was refused, and what can be done about it. */
export type Refusable = Pick<TrainOptions, 'directory' | 'resume' | 'verify'>;

/**
 * Runs what goes on from a run's own checkpoint, or starts from another's. Of one that is refused the error says which
 * other could take its place, and what else can be done: who can choose is told of `--no-verify`.
 *
 * @param mostBytes of tensors that are read for it; default: no limit
 */
export async function namingAnother<T>(
  { directory, resume = false, verify }: Refusable,
  work: () => Promise<T>,
  mostBytes?: number,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof RefusedCheckpoint)) throw error;
    const common = { canSkipVerifying: verify === true, mostBytes };
    const store = directory === undefined ? undefined : storeToRead(directory);
    const isOwn = resume && store && resolve(dirname(error.directory)) === resolve(store.directory);
    if (!isOwn) throw await withCheckpointInstead(error, common);
    throw await withCheckpointInstead(error, {
      ...common,
      modelOnly: false,
      check: (other, finite) => {
        readable(other);
        checkTensors(other, { finite });
      },
      advice: (older) => `delete ${store.after(older).join(' and ')} to go on from there`,
      otherwise: `move ${store.directory} away, and the run begins anew`,
    });
  }
}
