// Where a run begins: at its own newest checkpoint, with another run's weights, or with new ones.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, UserError } from '@stickbreaking/base';
import {
  checkFinite,
  type LlamaConfigInput,
  LlamaModel,
  loadConfig,
  OPTIMIZER_FILE,
  parseConfig,
  readSafetensors,
  STATE_FILE,
  verifyChecksums,
} from '@stickbreaking/model';
import { type CheckpointStore, readState, storeToRead, type TrainingState } from './checkpoint.js';
import { checkIdentity, firstDifference, type Identity, identityOf, say } from './identity.js';
import { saidModel } from './implied.js';
import { Optimizer, OptimizerSchema } from './optimizer.js';
import type { SharedWeights } from './parallel/shared_weights.js';
import { residualTypeIn, residualTypeOf } from './residual_type.js';
import { placeStages } from './stage.js';
import { checkStart, drawModel, newModel } from './start.js';
import type { TrainOptions } from './train_options.js';

/** The checkpoint that a resumed run would go on from, checked against the run's options. */
export function checkpointToResume(options: TrainOptions): { directory: string; state: TrainingState } | undefined {
  if (!options.resume || !options.directory) return undefined;
  const store = storeToRead(options.directory);
  const directory = store.latest();
  if (!directory) return undefined;
  let state: TrainingState;
  try {
    state = readable(store, directory);
  } catch (error) {
    // Whoever holds the run may have gone on meanwhile, and removed it.
    if (!existsSync(directory) && store.latest() !== directory) return checkpointToResume(options);
    throw error;
  }
  const identity = identify(options, state.identity);
  checkIdentity(state.identity, identity, state, directory);
  return { directory, state: placeIn(identity, state) };
}

/** The same, which looks at the checksums where something is wrong: a damaged file may look like another configuration. */
export async function intactToResume(options: TrainOptions): Promise<ReturnType<typeof checkpointToResume>> {
  try {
    return checkpointToResume(options);
  } catch (error) {
    const store = storeToRead(options.directory!);
    if (options.verify ?? true) await store.verify(store.latest()!);
    else await allHaveVerified(options); // one that verifies has more to say
    throw error;
  }
}

/** The state of a checkpoint whose parts agree. @throws UserError that names the newest older one of which that is true */
function readable(store: CheckpointStore, directory: string): TrainingState {
  const read = (one: string) => {
    const state = readState(one);
    checkProgress(one, state);
    checkModel(one, state);
    return state;
  };
  try {
    return read(directory);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const older = store
      .steps()
      .slice(0, -1)
      .map((step) => store.path(step))
      .findLast((path) => {
        try {
          return read(path);
        } catch {
          return false;
        }
      });
    const advice = older ? `${older} can be read: delete ${directory} to go on from there` : 'no older one can be read';
    throw new UserError(`${error.message.replace(/\.$/, '')}; ${advice}.`, { cause: error, exitCode: EXIT.refused });
  }
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
  throw new UserError(
    `${join(directory, STATE_FILE)} is damaged: step ${step} (${tokens} tokens, ${updates} updates) is not where ` +
      `stage ${stage} has come to after ${stageStep} of its steps.`,
  );
}

/** The model saved beside the state must belong to it. */
function checkModel(directory: string, { identity }: TrainingState): void {
  const difference = firstDifference(saidModel(identity.model ?? null), saidModel(loadConfig(directory)), ['model']);
  if (!difference) return;
  const { path, before, after } = difference;
  throw new UserError(
    `The checkpoint ${directory} contradicts itself: ${path} is ${say(before)} in state.json and ${say(after)} in ` +
      'config.json; put config.json back as it was saved, or resume from another checkpoint.',
    { exitCode: EXIT.refused },
  );
}

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
  // Checkpoints of earlier versions have neither.
  const { precision = 'default' } = options;
  const residualType = options.residualType ?? (saved ? residualTypeIn(saved) : residualTypeOf(options));
  const arithmetic = {
    ...(precision === 'default' ? {} : { precision }),
    ...(residualType === 'bfloat16' ? {} : { residualType }),
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
  const verified = verify(options, from);
  verified.catch(() => {}); // awaited below
  const load = async () => {
    if (!resumed && start) checkStart(identity.model, start);
    const model = resumed
      ? LlamaModel.load(resumed.directory)
      : start
        ? newModel(identity.model, identity.seed, from.startedFrom)
        : await drawModel(identity.model, identity.seed, options.collective);
    if (from.startedFrom !== undefined) await checkFinite(model, from.startedFrom);
    const before = resumed ? { ...resumed.state, identity } : initialState(identity);
    const state = { ...before, arithmetic: options.arithmetic ?? before.arithmetic };
    const weights = options.collective?.share?.(model);
    const optimizer = new Optimizer(weights?.owned ?? model.parameters, identity.optimizer, {
      updates: state.updates,
      apart: weights !== undefined,
    });
    if (resumed) loadMoments(optimizer, resumed.directory, weights);
    return { model, optimizer, weights, state, ...from };
  };
  let loaded: Beginning;
  try {
    loaded = await load();
  } catch (error) {
    await verified; // says more of a damaged file than what stumbled over it
    throw error;
  }
  await verified;
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
async function verify(options: TrainOptions, from: Pick<Beginning, 'resumedFrom' | 'startedFrom'>): Promise<void> {
  await verifyOwn(options, from);
  if (from.startedFrom !== undefined || from.resumedFrom !== undefined) await allHaveVerified(options);
}

/** Waits for the other processes: one that finds damage ends the run for all. */
async function allHaveVerified({ collective }: TrainOptions): Promise<void> {
  await collective?.sumNumbers([0]);
}

async function verifyOwn(
  { directory, verify = true, hooks }: TrainOptions,
  { resumedFrom, startedFrom }: Pick<Beginning, 'resumedFrom' | 'startedFrom'>,
): Promise<void> {
  if (!verify) return;
  const { onNotice } = hooks ?? {};
  if (startedFrom !== undefined) await verifyChecksums(startedFrom, { modelOnly: true, onNotice });
  if (resumedFrom === undefined) return;
  const store = storeToRead(directory!);
  await store.verify(resumedFrom, onNotice);
}

function initialState(identity: Identity): TrainingState {
  const zero = { step: 0, updates: 0, tokens: 0, stage: 0, stageStep: 0, nonFiniteSteps: 0 };
  return { version: 1, ...zero, cursor: null, seed: identity.seed, best: null, identity };
}

function loadMoments(optimizer: Optimizer, directory: string, weights?: SharedWeights): void {
  const file = readSafetensors(join(directory, OPTIMIZER_FILE));
  try {
    optimizer.restore((name, ownShape) => {
      const parameter = name.slice(name.indexOf('.') + 1);
      const shape = weights?.shapeOf(parameter) ?? ownShape;
      const saved = file.shape(name);
      if (saved.join() === shape.join()) return weights?.partOf(parameter, file.read(name)) ?? file.read(name);
      throw new UserError(`${directory}: '${name}' of the optimizer has shape [${saved}], not [${shape}].`);
    });
  } finally {
    file.close();
  }
}
