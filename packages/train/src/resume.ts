// Where a run begins: at its own newest checkpoint, with another run's weights, or with new ones.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, UserError } from '@stickbreaking/base';
import {
  checkFinite,
  checkModelFiles,
  type LlamaConfigInput,
  LlamaModel,
  type LoadAsyncOptions,
  parseConfig,
  readingCheckpoint,
  resolveCheckpoint,
  type SummedFiles,
  summedFiles,
  tensorBytes,
  thenVerifying,
  verifyChecksums,
  whileVerifying,
} from '@stickbreaking/model';
import { type CheckpointStore, storeToRead, type TrainingState } from './checkpoint.js';
import { checkIdentity, type Identity, identityOf } from './identity.js';
import { Optimizer, OptimizerSchema } from './optimizer.js';
import type { SharedWeights } from './parallel/shared_weights.js';
import { residualTypeIn, residualTypeOf } from './residual_type.js';
import { checkTensors, MOMENTS_SAID, readable, readMoments } from './sound.js';
import { placeStages } from './stage.js';
import { checkStart, drawModel, loadStart } from './start.js';
import type { TrainOptions } from './train_options.js';

/**
 * The checkpoint that a resumed run would go on from, checked against the run's options.
 *
 * @throws RefusedCheckpoint where its parts do not agree; UserError where the options are of another run
 */
export function checkpointToResume(options: TrainOptions): { directory: string; state: TrainingState } | undefined {
  if (!options.resume || !options.directory) return undefined;
  const store = storeToRead(options.directory);
  const directory = store.latest();
  if (!directory) {
    refuseLost(options.directory, store);
    return undefined;
  }
  let state: TrainingState;
  try {
    state = readable(directory);
  } catch (error) {
    // Whoever holds the run may have gone on meanwhile, and removed it.
    if (!existsSync(directory) && store.latest() !== directory) return checkpointToResume(options);
    throw error;
  }
  const identity = identify(options, state.identity);
  checkIdentity(state.identity, identity, state, directory);
  return { directory, state: placeIn(identity, state) };
}

/** Where a pointer to a checkpoint is left, there was one: a run that began anew would write over what came of it. */
function refuseLost(run: string, store: CheckpointStore): void {
  if (!existsSync(join(store.directory, 'latest'))) return;
  try {
    resolveCheckpoint(run);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const message = `${error.message.replace(/\.$/, '')}; move ${store.directory} away, and the run begins anew.`;
    throw new UserError(message, { cause: error, exitCode: EXIT.refused });
  }
}

/**
 * The same, which looks at the checksums where something is wrong: a damaged file may look like another configuration.
 *
 * @param mostBytes of files whose checksums are compared; default: no limit
 */
export async function intactToResume(
  options: TrainOptions,
  mostBytes?: number,
): Promise<ReturnType<typeof checkpointToResume>> {
  try {
    return checkpointToResume(options);
  } catch (error) {
    const directory = storeToRead(options.directory!).latest();
    if (!directory) throw error;
    if (options.verify ?? true) await verifyChecksums(directory, { mostBytes });
    else await allHaveVerified(options); // one that verifies has more to say
    throw error;
  }
}

/** What a plan reads at most of a checkpoint's tensors, and of others that could take its place: a few seconds of a disk. */
export const MOST_PLANNED_BYTES = 2 ** 33;

/**
 * The same for a plan, which says of every file whether the run could go on from it; of large ones the checksums and the
 * numbers are left to the run.
 */
export async function soundToResume(
  options: TrainOptions,
): Promise<{ directory: string; isVerified: boolean } | undefined> {
  const found = await intactToResume(options, MOST_PLANNED_BYTES);
  if (!found) return undefined;
  const { directory } = found;
  const isVerified = await isSound(options, directory, false, (finite) => checkTensors(directory, { finite }));
  return { directory, isVerified };
}

/** @returns whether the checksums of what a new run would start from were compared */
export const soundToStart = (options: TrainOptions, directory: string): Promise<boolean> =>
  isSound(options, directory, true, (finite) => checkModelFiles(directory, { finite }));

async function isSound(
  { verify = true }: TrainOptions,
  directory: string,
  modelOnly: boolean,
  check: (finite: boolean) => void,
): Promise<boolean> {
  const mostBytes = MOST_PLANNED_BYTES;
  const isRead = readingCheckpoint(directory, () => tensorBytes(directory, modelOnly)) <= mostBytes;
  const verified = verify ? verifyChecksums(directory, { modelOnly, mostBytes }) : undefined;
  await whileVerifying(verified, () => check(isRead));
  return (await verified) ?? false;
}

/** The checkpoint that a run's weights come from, if any: its own, or another's. */
type From = Partial<Pick<Beginning, 'resumedFrom' | 'startedFrom'>>;

/** A finished stage that was made longer since is continued; one made shorter may now be finished. */
function placeIn(identity: Identity, state: TrainingState): TrainingState {
  const { stage, stageStep } = state;
  const lengths = (stages: unknown) => (stages as { steps: number }[]).map(({ steps }) => steps);
  const [before, now] = [lengths(state.identity.stages), lengths(identity.stages)];
  if (stageStep === 0 && stage > 0 && now[stage - 1]! > before[stage - 1]!) {
    return { ...state, stage: stage - 1, stageStep: before[stage - 1]! };
  }
  return stageStep > 0 && stageStep === now[stage] ? { ...state, stage: stage + 1, stageStep: 0 } : state;
}

/** @param saved that of the checkpoint which the run goes on from: what the options leave open stays as it was */
export function identify(options: TrainOptions, saved?: Record<string, unknown>): Identity {
  const { seed = 0 } = options;
  const model = parseConfig(options.model as LlamaConfigInput);
  const optimizer = OptimizerSchema.parse(options.optimizer ?? {});
  // Checkpoints of earlier versions have none of these.
  const { precision = 'default', reduceType = 'float32' } = options;
  const residualType = options.residualType ?? (saved ? residualTypeIn(saved) : residualTypeOf(options));
  const arithmetic = {
    ...(precision === 'default' ? {} : { precision }),
    ...(residualType === 'bfloat16' ? {} : { residualType }),
    // As a run file has it, which is what a message names.
    ...(reduceType === 'float32' ? {} : { parallel: { reduceType } }),
  };
  return identityOf({ model, seed, optimizer }, placeStages(options.stages), { ...options.identity, ...arithmetic });
}

/** Model, optimizer and state at the run's first step, or at the step that it goes on from. */
export interface Beginning {
  model: LlamaModel;
  optimizer: Optimizer;
  /** Where processes share the optimizer's state. */
  weights: SharedWeights | undefined;
  state: TrainingState;
  /** The run's own checkpoint. */
  resumedFrom: string | undefined;
  /** The checkpoint whose weights a new run has. */
  startedFrom: string | undefined;
}

/** @throws UserError if the checkpoint belongs to another run or model, or is damaged */
export async function begin(options: TrainOptions): Promise<Beginning> {
  const resumed = await intactToResume(options);
  const identity = identify(options, resumed?.state.identity);
  const start = typeof options.startFrom === 'string' ? { path: options.startFrom } : options.startFrom;
  const from = { resumedFrom: resumed?.directory, startedFrom: resumed ? undefined : start?.path };
  const loadedFrom = from.resumedFrom ?? from.startedFrom;
  const summed = (options.verify ?? true) && loadedFrom !== undefined ? summedFiles(loadedFrom) : undefined;
  const load = async () => {
    if (!resumed && start) checkStart(identity.model, start);
    const model = resumed
      ? await LlamaModel.loadAsync(resumed.directory, { summed })
      : start
        ? await loadStart(identity.model, start.path, { summed })
        : await drawModel(identity.model, identity.seed, options.collective);
    if (from.startedFrom !== undefined) await checkFinite(model, from.startedFrom);
    const before = resumed ? { ...resumed.state, identity } : initialState(identity);
    const state = { ...before, arithmetic: options.arithmetic ?? before.arithmetic };
    const weights = options.collective?.share?.(model);
    const optimizer = new Optimizer(weights?.owned ?? model.parameters, identity.optimizer, {
      updates: state.updates,
      apart: weights !== undefined,
      restored: resumed !== undefined,
    });
    if (resumed) {
      await loadMoments(optimizer, resumed.directory, { weights, summed });
      // Where weights are shared each process looks at its own, as a device may not have the memory for all.
      await checkFinite(optimizer, resumed.directory);
      await checkFinite({ parameters: optimizer.state() }, resumed.directory, MOMENTS_SAID);
    }
    return { model, optimizer, weights, state, ...from };
  };
  // Afterwards: it sums over the processes, which must not come between sums of loading in some of them.
  const loaded: Beginning = await thenVerifying(load, () => verify(options, from, summed));
  if (resumed) compareArithmetic(resumed.state, options);
  return loaded;
}

/** Another library or machine is no mistake, but bits will differ from those of a run that never stopped. */
function compareArithmetic(
  { arithmetic: before, step }: TrainingState,
  { arithmetic: now, hooks }: TrainOptions,
): void {
  if (before === undefined || now === undefined || before === now) return;
  hooks?.onNotice?.(
    `results will differ in their last bits from those of a run that never stopped: up to step ${step} it computed ` +
      `with '${before}', and goes on with '${now}'`,
  );
}

/** Checks the checksums of the checkpoint that the weights come from; of several processes, those that are to. */
async function verify(
  options: TrainOptions,
  { resumedFrom, startedFrom }: From,
  summed: SummedFiles | undefined,
): Promise<void> {
  const directory = resumedFrom ?? startedFrom;
  if (directory === undefined) return;
  const { verify = true, hooks } = options;
  const modelOnly = resumedFrom === undefined;
  if (verify) await verifyChecksums(directory, { modelOnly, onNotice: hooks?.onNotice, summed });
  await allHaveVerified(options);
}

/** Waits for the other processes: one that finds damage ends the run for all. */
async function allHaveVerified({ collective }: TrainOptions): Promise<void> {
  await collective?.sumNumbers([0]);
}

function initialState(identity: Identity): TrainingState {
  const zero = { step: 0, updates: 0, tokens: 0, stage: 0, stageStep: 0, nonFiniteSteps: 0 };
  return { version: 1, ...zero, cursor: null, seed: identity.seed, best: null, identity };
}

/** Restores the optimizer's moments. Where processes share its state, each reads all of them and keeps its part. */
async function loadMoments(
  optimizer: Optimizer,
  directory: string,
  { weights, summed }: LoadAsyncOptions & Pick<Beginning, 'weights'>,
): Promise<void> {
  const parameterOf = (name: string) => name.slice(name.indexOf('.') + 1);
  const shapes = [...optimizer.state().keys()].map((name) => {
    const parameter = parameterOf(name);
    return [name, weights?.shapeOf(parameter) ?? optimizer.parameters.get(parameter)!.shape] as const;
  });
  const take = (name: string, values: Float32Array) =>
    optimizer.restore(name, weights?.partOf(parameterOf(name), values) ?? values);
  await readMoments(directory, new Map(shapes), take, { summed });
}
