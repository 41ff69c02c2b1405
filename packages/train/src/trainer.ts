// The training loop. One turn is one optimizer step: its micro-batches run forward and backward, the summed gradients
// are clipped, AdamW moves the parameters, and what is due is measured and saved. Nothing in it is random: weights and
// data order follow from the seed, so a run that goes on from a checkpoint gives the losses of one that never stopped.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { globalNorm } from '@stickbreaking/core';
import {
  type LlamaConfig,
  type LlamaConfigInput,
  LlamaModel,
  loadConfig,
  MODEL_FILE,
  parseConfig,
  type Recompute,
  readSafetensors,
  verifyChecksums,
  writeSafetensors,
} from '@stickbreaking/model';
import type { z } from 'zod';
import { batchGradients, disposeAll } from './batch_gradients.js';
import { CheckpointStore, readState, type TrainingState } from './checkpoint.js';
import type { Collective } from './collective.js';
import { checkIdentity, firstDifference, type Identity, identityOf, say } from './identity.js';
import { MetricsFile, type StepMetrics, type ValidationMetrics } from './metrics.js';
import { Optimizer, OptimizerSchema } from './optimizer.js';
import { learningRate } from './schedule.js';
import { type BatchSource, type PlacedStage, placeStages, type TrainStage } from './stage.js';
import { checkStart, newModel, type Start } from './start.js';

export interface TrainOptions {
  model: LlamaConfigInput | LlamaConfig;
  stages: readonly TrainStage[];
  optimizer?: z.input<typeof OptimizerSchema>;
  /** What the backward computes again instead of keeping it; losses stay the same. Default: nothing. */
  recompute?: Recompute;
  /** Initial weights follow from it; default 0. */
  seed?: number;
  /** A checkpoint directory whose weights the run starts from, and what of its configuration may differ. */
  startFrom?: string | Start | undefined;
  /** The run's directory: checkpoints/ and metrics.jsonl. Left out: nothing is written. */
  directory?: string | undefined;
  /** Go on from the directory's newest checkpoint, where it has one. */
  resume?: boolean;
  /** Hold the checkpoint that the run goes on or starts from to its checksums; default true. */
  verify?: boolean;
  checkpoints?: { everySteps?: number; keepLast?: number; keepBest?: boolean };
  /** tokenizer.json, copied into the checkpoints */
  tokenizerPath?: string | undefined;
  /** Plain JSON of what else a resumed run must agree in, such as the tokenizer's hash. */
  identity?: Record<string, unknown>;
  validation?: { everySteps: number; loss(model: LlamaModel): Promise<number> } | undefined;
  /** The run stops after this many steps in a row whose loss or gradient was not finite; default 5. */
  maxNonFiniteSteps?: number;
  hooks?: TrainHooks;
  /** Saves and leaves, as soon as the micro-batch under way is done. */
  signal?: AbortSignal;
  /** The processes that share the run; default: this one alone. */
  collective?: Collective;
}

/** Told what happens; the run waits for a promise. */
export interface TrainHooks {
  /** @param resumedFrom the run's own checkpoint that it goes on from @param startedFrom the one whose weights it begins with */
  onStart?(
    model: LlamaModel,
    state: TrainingState,
    resumedFrom: string | undefined,
    startedFrom: string | undefined,
  ): void | Promise<void>;
  onStep?(metrics: StepMetrics, model: LlamaModel): void | Promise<void>;
  onValidation?(metrics: ValidationMetrics, model: LlamaModel): void | Promise<void>;
  onCheckpoint?(directory: string): void | Promise<void>;
  /** One line about something out of the ordinary. */
  onNotice?(line: string): void;
}

export interface TrainResult {
  /** false where `signal` ended it */
  finished: boolean;
  /** The trained model; the caller disposes of it. */
  model: LlamaModel;
  state: TrainingState;
  /** the newest checkpoint */
  checkpoint: string | undefined;
}

/**
 * Trains a model through its stages on tfjs's active backend.
 *
 * @throws UserError where the options do not fit together, the checkpoint is of another run, files cannot be written,
 *   or the loss stays not finite
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  const trainer = await Trainer.start(options);
  try {
    return await trainer.run();
  } finally {
    trainer.close();
  }
}

const OPTIMIZER_FILE = 'optimizer.safetensors';

/** The checkpoint that a resumed run would go on from, checked against the run's options. */
export function checkpointToResume(options: TrainOptions): { directory: string; state: TrainingState } | undefined {
  if (!options.resume || !options.directory) return undefined;
  const directory = new CheckpointStore(join(options.directory, 'checkpoints'), { last: 1, best: false }).latest();
  if (!directory) return undefined;
  const state = readState(directory);
  const identity = identify(options);
  checkIdentity(state.identity, identity, state, directory);
  checkModel(directory, state);
  return { directory, state: placeIn(identity, state) };
}

/** The model that lies beside the state must be the one that the state is of. */
function checkModel(directory: string, { identity }: TrainingState): void {
  const difference = firstDifference(identity.model, JSON.parse(JSON.stringify(loadConfig(directory))), ['model']);
  if (!difference) return;
  const { path, before, after } = difference;
  throw new UserError(
    `The checkpoint ${directory} contradicts itself: ${path} is ${say(before)} in state.json and ${say(after)} in ` +
      'config.json; put config.json back as it was saved, or resume from another checkpoint.',
  );
}

/** A stage that was finished and has been made longer since is gone on with; one made shorter may be finished now. */
function placeIn(identity: Identity, state: TrainingState): TrainingState {
  const { stage, stageStep } = state;
  const lengths = (stages: unknown) => (stages as { steps: number }[]).map(({ steps }) => steps);
  const [before, now] = [lengths(state.identity.stages), lengths(identity.stages)];
  if (stageStep === 0 && stage > 0 && now[stage - 1]! > before[stage - 1]!) {
    return { ...state, stage: stage - 1, stageStep: before[stage - 1]! };
  }
  return stageStep > 0 && stageStep === now[stage] ? { ...state, stage: stage + 1, stageStep: 0 } : state;
}

function identify(options: TrainOptions): Identity {
  const { seed = 0 } = options;
  const model = parseConfig(options.model as LlamaConfigInput);
  const optimizer = OptimizerSchema.parse(options.optimizer ?? {});
  return identityOf({ model, seed, optimizer }, placeStages(options.stages), options.identity);
}

class Trainer {
  private source: BatchSource | undefined;
  private clock = performance.now();
  private readonly store: CheckpointStore | undefined;
  private readonly metrics: MetricsFile | undefined;
  private readonly hooks: TrainHooks;

  private constructor(
    private readonly options: TrainOptions,
    private readonly stages: readonly PlacedStage[],
    private readonly model: LlamaModel,
    private readonly optimizer: Optimizer,
    private state: TrainingState,
  ) {
    this.hooks = options.hooks ?? {};
    const { directory, collective, checkpoints: { keepLast = 3, keepBest = true } = {} } = options;
    if (!directory || (collective && collective.rank > 0)) return;
    try {
      mkdirSync(join(directory, 'checkpoints'), { recursive: true });
    } catch (error) {
      throw explainSystemError(error, `cannot write to ${directory}`);
    }
    this.store = new CheckpointStore(join(directory, 'checkpoints'), { last: keepLast, best: keepBest });
    this.store.repair();
    this.metrics = new MetricsFile(join(directory, 'metrics.jsonl'), state.step);
  }

  static async start(options: TrainOptions): Promise<Trainer> {
    const stages = placeStages(options.stages);
    const identity = identify(options);
    const resumed = checkpointToResume(options);
    await verifyStart(options, resumed?.directory);
    const model = resumed ? LlamaModel.load(resumed.directory) : firstModel(identity, options.startFrom);
    const { startFrom } = options;
    const startedFrom = resumed ? undefined : typeof startFrom === 'string' ? startFrom : startFrom?.path;
    const state = resumed ? { ...resumed.state, identity } : initialState(identity);
    const optimizer = new Optimizer(model.parameters, identity.optimizer, state.updates);
    if (resumed) loadMoments(optimizer, resumed.directory);
    const trainer = new Trainer(options, stages, model, optimizer, state);
    await options.hooks?.onStart?.(model, state, resumed?.directory, startedFrom);
    return trainer;
  }

  async run(): Promise<TrainResult> {
    this.clock = performance.now();
    while (this.state.stage < this.stages.length) {
      if (!(await this.step())) return { finished: false, ...(await this.result()) };
      await this.whatIsDue();
    }
    const { nonFiniteSteps } = this.state;
    if (nonFiniteSteps > 0)
      throw this.diverged(`in the last ${nonFiniteSteps === 1 ? 'step' : `${nonFiniteSteps} steps`}`);
    return { finished: true, ...(await this.result()) };
  }

  close(): void {
    this.optimizer.dispose();
    this.metrics?.close();
  }

  /** One optimizer step; false when it was given up for the signal. The state moves on only when all of it is done. */
  private async step(): Promise<boolean> {
    const { state, options } = this;
    const index = state.stage;
    const stage = this.stages[index]!;
    this.source ??= await this.openData(index);
    const { source } = this;
    const batches = Array.from({ length: stage.microBatches }, () => source.next());
    const result = await batchGradients(this.model, batches, options);
    if (!result) return false;
    const { loss, gradients, gradientNorm } = result;
    const rate = learningRate(this.stages, index, state.stageStep);
    const finite = Number.isFinite(loss) && Number.isFinite(gradientNorm);
    if (finite) this.optimizer.update(gradients, gradientNorm, rate);
    disposeAll(gradients);
    this.state = {
      ...state,
      step: state.step + 1,
      updates: this.optimizer.updates,
      tokens: state.tokens + stage.batchTokens,
      stageStep: state.stageStep + 1,
      nonFiniteSteps: finite ? 0 : state.nonFiniteSteps + 1,
      cursor: source.cursor(),
    };
    if (this.state.stageStep === stage.steps) this.enterStage(index + 1);
    await this.report({
      step: this.state.step,
      stage: index,
      tokens: this.state.tokens,
      loss: finiteOrNull(loss),
      learningRate: rate,
      gradientNorm: finiteOrNull(gradientNorm),
      tokensPerSecond: this.tokensPerSecond(stage.batchTokens),
      ...(finite ? {} : { skipped: true as const }),
    });
    return true;
  }

  private enterStage(index: number): void {
    this.state = { ...this.state, stage: index, stageStep: 0 };
    this.source = undefined;
  }

  /** A stage begins its own data anew, and goes on with an earlier one's where that stands. */
  private openData(index: number): BatchSource | Promise<BatchSource> {
    const stage = this.stages[index]!;
    const begins = stage.dataStage === index && this.state.stageStep === 0;
    const { data } = this.options.stages[stage.dataStage]!;
    return data!.open(stage, begins ? undefined : (this.state.cursor ?? undefined));
  }

  private tokensPerSecond(tokens: number): number {
    const now = performance.now();
    const seconds = (now - this.clock) / 1000;
    this.clock = now;
    return tokens / seconds;
  }

  private async report(metrics: StepMetrics): Promise<void> {
    this.metrics?.append(metrics);
    await this.hooks.onStep?.(metrics, this.model);
    if (!metrics.skipped) return;
    const { nonFiniteSteps } = this.state;
    const what = metrics.loss === null ? 'loss' : 'gradient';
    const most = this.options.maxNonFiniteSteps ?? 5;
    this.hooks.onNotice?.(
      `step ${metrics.step}: the ${what} is not finite; the step is skipped and the parameters stay as they are ` +
        `(${nonFiniteSteps} in a row, the run stops at ${most})`,
    );
    if (nonFiniteSteps >= most) throw this.diverged(`in ${most} steps in a row`);
  }

  /** The run cannot go on from here; what it last had of worth is named. */
  private diverged(when: string): UserError {
    const { step, nonFiniteSteps } = this.state;
    // The parameters of a checkpoint are known to be good when the step after it was.
    const firstBad = step - nonFiniteSteps + 1;
    const good = this.store?.steps().findLast((saved) => saved + 1 < firstBad);
    return new UserError(
      `The loss or its gradient was not finite ${when}, up to step ${step}. ${this.goodCheckpoint(good)}; ` +
        'lower the learning rate, or look at the data of these steps.',
    );
  }

  private goodCheckpoint(step: number | undefined): string {
    return step === undefined
      ? 'No checkpoint is known to be good'
      : `The last good checkpoint is ${this.store!.path(step)}`;
  }

  /** Validation and a checkpoint, where this step calls for them. */
  private async whatIsDue(): Promise<void> {
    const { validation, checkpoints: { everySteps = 1000, keepBest = true } = {} } = this.options;
    const { step, stage, stageStep, nonFiniteSteps } = this.state;
    const last = stage === this.stages.length;
    let isBest = false;
    if (validation && (step % validation.everySteps === 0 || last)) isBest = await this.validate(validation);
    // What comes of a step that was skipped is not known to be good before one that was not.
    const due = last || stageStep === 0 || step % everySteps === 0 || (isBest && keepBest);
    if (due && nonFiniteSteps === 0) await this.save();
    if (validation || due) this.clock = performance.now();
  }

  private async validate(validation: NonNullable<TrainOptions['validation']>): Promise<boolean> {
    const { step, tokens, best } = this.state;
    const metrics: ValidationMetrics = { step, tokens, validationLoss: await validation.loss(this.model) };
    this.metrics?.append(metrics);
    await this.hooks.onValidation?.(metrics, this.model);
    const isBest =
      Number.isFinite(metrics.validationLoss) && metrics.validationLoss < (best?.validationLoss ?? Infinity);
    if (isBest) this.state = { ...this.state, best: { step, validationLoss: metrics.validationLoss } };
    return isBest;
  }

  private async save(): Promise<void> {
    if (!this.store) return;
    await this.checkFinite();
    this.metrics?.sync();
    const { model, optimizer, state, options } = this;
    const directory = await this.store.save({
      state,
      tokenizerPath: options.tokenizerPath,
      writeTensors: (target, written) => {
        model.save(target);
        written(MODEL_FILE);
        const moments = [...optimizer.state()].map(([name, moment]) => {
          return { name, shape: moment.shape, values: () => moment.dataSync() as Float32Array };
        });
        writeSafetensors(join(target, OPTIMIZER_FILE), moments);
        written(OPTIMIZER_FILE);
      },
    });
    await this.hooks.onCheckpoint?.(directory);
  }

  /** A loss says nothing about the update after it: what is saved is looked at itself. */
  private async checkFinite(): Promise<void> {
    const norm = globalNorm([...this.model.parameters.values(), ...this.optimizer.state().values()]);
    const [value] = await norm.data();
    norm.dispose();
    if (Number.isFinite(value)) return;
    const { step } = this.state;
    throw new UserError(
      `The weights or the optimizer's moments are not finite after step ${step}, so they are not saved. ` +
        `${this.goodCheckpoint(this.store?.steps().at(-1))}; lower the learning rate or the weight decay.`,
    );
  }

  private async result(): Promise<Omit<TrainResult, 'finished'>> {
    const { model, state, store } = this;
    const saved = state.step === 0 || store?.steps().at(-1) === state.step;
    if (!saved && state.nonFiniteSteps > 0) {
      // Weights that gave no finite loss are not worth what saving them would push out.
      this.hooks.onNotice?.(`the last ${state.nonFiniteSteps} steps were not finite, so they are not saved`);
    } else if (!saved) await this.save();
    return { model, state, checkpoint: store?.latest() };
  }
}

/** Holds the checkpoint that the run's weights come from to its checksums. */
async function verifyStart(options: TrainOptions, resumed: string | undefined): Promise<void> {
  const { directory, startFrom, verify = true, hooks } = options;
  const from = resumed ?? (typeof startFrom === 'string' ? startFrom : startFrom?.path);
  if (!verify || from === undefined) return;
  const store = new CheckpointStore(join(directory ?? from, 'checkpoints'), { last: 1, best: false });
  const isKnown = resumed ? await store.verify(resumed) : await verifyChecksums(from);
  if (!isKnown && resumed)
    hooks?.onNotice?.(`${resumed} has no checksums (an older version saved it): it was not verified`);
}

function firstModel({ model, seed }: Identity, startFrom: TrainOptions['startFrom']): LlamaModel {
  const start = typeof startFrom === 'string' ? { path: startFrom } : startFrom;
  if (start) checkStart(model, start);
  return newModel(model, seed, start?.path);
}

function initialState(identity: Identity): TrainingState {
  const zero = { step: 0, updates: 0, tokens: 0, stage: 0, stageStep: 0, nonFiniteSteps: 0 };
  return { version: 1, ...zero, cursor: null, seed: identity.seed, best: null, identity };
}

function loadMoments(optimizer: Optimizer, directory: string): void {
  const file = readSafetensors(join(directory, OPTIMIZER_FILE));
  try {
    optimizer.restore((name, shape) => {
      const saved = file.shape(name);
      if (saved.join() === shape.join()) return file.read(name);
      throw new UserError(`${directory}: '${name}' of the optimizer has shape [${saved}], not [${shape}].`);
    });
  } finally {
    file.close();
  }
}

const finiteOrNull = (value: number) => (Number.isFinite(value) ? value : null);
