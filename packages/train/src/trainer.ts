// The training loop. One turn is one optimizer step: its micro-batches run forward and backward, the summed gradients
// are clipped, AdamW moves the parameters, and what is due is measured and saved. Nothing in it is random: weights and
// data order follow from the seed, so a run that goes on from a checkpoint gives the losses of one that never stopped.
import { join } from 'node:path';
import { makeDirectory } from '@stickbreaking/base/node';
import {
  type LlamaModel,
  MODEL_FILE,
  OPTIMIZER_FILE,
  type TokenBatch,
  trainingFlopsPerToken,
  usesCountsBefore,
  writeSafetensorsAsync,
} from '@stickbreaking/model';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { batchGradients, disposeAll } from './batch_gradients.js';
import { CheckpointStore, type TrainingState } from './checkpoint.js';
import { IdleExperts } from './idle_experts.js';
import { evaluate, type Measured, sample, validate } from './measurements.js';
import { memoryInUse, type StepMetrics } from './metrics.js';
import { checkWorthSaving, diverged, skippedNotice } from './not_finite.js';
import type { Optimizer } from './optimizer.js';
import { SharedSaves } from './parallel/shared_saves.js';
import type { SharedWeights } from './parallel/shared_weights.js';
import { residualTypeIn } from './residual_type.js';
import { begin } from './resume.js';
import type { StepRouting } from './routing.js';
import { RunRecord } from './run_record.js';
import { learningRate } from './schedule.js';
import { namingAnother } from './sound.js';
import { type BatchSource, type PlacedStage, placeStages } from './stage.js';
import type { TrainHooks, TrainOptions, TrainResult } from './train_options.js';

/**
 * Trains a model through its stages on tfjs's active backend.
 *
 * @throws UserError if the options do not fit together, the checkpoint belongs to another run, files cannot be written,
 *   or the loss remains not finite
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  const trainer = await namingAnother(options, () => Trainer.start(options));
  try {
    return await trainer.run();
  } finally {
    trainer.close();
  }
}

class Trainer {
  private source: BatchSource | undefined;
  /** The next step's micro-batches, and the data's cursor behind them. */
  private ahead: (() => { batches: TokenBatch[]; cursor: TrainingState['cursor'] }) | undefined;
  private clock = performance.now();
  private readonly store: CheckpointStore | undefined;
  private record: RunRecord | undefined;
  /** Where processes share the weights. */
  private readonly saves: SharedSaves | undefined;
  private readonly hooks: TrainHooks;
  private readonly idleExperts = new IdleExperts();

  private constructor(
    private readonly options: TrainOptions,
    private readonly stages: readonly PlacedStage[],
    private readonly model: LlamaModel,
    private readonly optimizer: Optimizer,
    private state: TrainingState,
    private readonly weights: SharedWeights | undefined,
    /** The step of the newest checkpoint; 0 where there is none. */
    private savedStep: number,
  ) {
    this.hooks = options.hooks ?? {};
    const { directory, collective, tokenizer, checkpoints: { keepLast = 3, keepBest = true } = {} } = options;
    if (!directory) return;
    const checkpoints = join(directory, 'checkpoints');
    if (!collective || collective.rank === 0) {
      makeDirectory(checkpoints);
      this.store = new CheckpointStore(checkpoints, { last: keepLast, best: keepBest });
      this.store.repair();
    }
    if (weights) {
      const shared = { model, optimizer, weights, collective: collective!, directory: checkpoints };
      this.saves = new SharedSaves({ ...shared, store: this.store, tokenizer, hooks: this.hooks });
    }
  }

  static async start(options: TrainOptions): Promise<Trainer> {
    const stages = placeStages(options.stages);
    const { model, optimizer, weights, state, resumedFrom, startedFrom } = await begin(options);
    const trainer = new Trainer(options, stages, model, optimizer, state, weights, resumedFrom ? state.step : 0);
    await trainer.openRecord();
    await options.hooks?.onStart?.(model, state, resumedFrom, startedFrom);
    return trainer;
  }

  private async openRecord(): Promise<void> {
    const { directory, tensorboard, samples } = this.options;
    if (!directory || !this.store) return;
    this.record = await RunRecord.open(directory, this.state.step, {
      tensorboard,
      samples: samples !== undefined,
      onNotice: (line) => this.hooks.onNotice?.(line),
    });
  }

  async run(): Promise<TrainResult> {
    this.clock = performance.now();
    while (this.state.stage < this.stages.length) {
      if (!(await this.step())) return { finished: false, ...(await this.result()) };
      await this.saves?.look();
      await this.whatIsDue();
    }
    const { nonFiniteSteps } = this.state;
    if (nonFiniteSteps > 0)
      throw diverged(
        `in the last ${nonFiniteSteps === 1 ? 'step' : `${nonFiniteSteps} steps`}`,
        this.state,
        this.store,
      );
    return { finished: true, ...(await this.result()) };
  }

  close(): void {
    this.optimizer.dispose();
    this.record?.close();
  }

  /** One optimizer step; false when it was given up for the signal. The state moves on only when all of it is done. */
  private async step(): Promise<boolean> {
    const { state, options } = this;
    const index = state.stage;
    const stage = this.stages[index]!;
    this.source ??= await this.openData(index);
    const { source } = this;
    const take = () => {
      const batches = Array.from({ length: stage.microBatches }, () => source.next());
      return { batches, cursor: source.cursor() };
    };
    const { batches, cursor } = this.ahead ? this.ahead() : take();
    const rate = learningRate(this.stages, index, state.stageStep);
    let updated = false;
    const update = (gradients: Map<string, Tensor>, norm: number | Scalar) => {
      this.optimizer.update(gradients, norm, rate, (inLayers) => this.weights?.renewWeights(inLayers));
      updated = true;
    };
    const working = batchGradients(this.model, batches, {
      ...{ ...options, weights: this.weights, early: update, countsBefore: state.expertCounts },
      residualType: residualTypeIn(state.identity),
    });
    // Read while a GPU is at work. What is wrong with it is told when its turn comes.
    this.ahead = state.stageStep + 1 < stage.steps ? attempted(take) : undefined;
    const result = await working;
    if (!result) {
      if (updated) this.optimizer.takeBack();
      return false;
    }
    const { loss, gradients, gradientNorm, routing } = result;
    const finite = Number.isFinite(loss) && Number.isFinite(gradientNorm);
    if (updated && !finite) this.optimizer.takeBack();
    if (!updated && finite) update(gradients, gradientNorm);
    disposeAll(gradients);
    this.state = {
      ...state,
      step: state.step + 1,
      updates: this.optimizer.updates,
      tokens: state.tokens + stage.batchTokens,
      stageStep: state.stageStep + 1,
      nonFiniteSteps: finite ? 0 : state.nonFiniteSteps + 1,
      cursor,
      ...(routing && usesCountsBefore(this.model.config)
        ? { expertCounts: routing.counts.map((own) => [...own]) }
        : {}),
    };
    if (this.state.stageStep === stage.steps) this.enterStage(index + 1);
    const metrics = {
      step: this.state.step,
      stage: index,
      tokens: this.state.tokens,
      loss: finiteOrNull(loss),
      learningRate: rate,
      gradientNorm: finiteOrNull(gradientNorm),
      ...routing?.metrics,
      ...this.speed(stage),
      memoryBytes: memoryInUse(),
      ...(finite ? {} : { skipped: true as const }),
    };
    await this.report(metrics, routing);
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

  /** Since it was last asked. */
  private speed({ batchTokens, contextLength }: PlacedStage): Pick<StepMetrics, 'tokensPerSecond' | 'flopsPerSecond'> {
    const now = performance.now();
    const tokensPerSecond = batchTokens / ((now - this.clock) / 1000);
    this.clock = now;
    return {
      tokensPerSecond,
      flopsPerSecond: tokensPerSecond * trainingFlopsPerToken(this.model.config, contextLength),
    };
  }

  private async report(metrics: StepMetrics, routing: StepRouting | undefined): Promise<void> {
    this.record?.append(metrics);
    await this.hooks.onStep?.(metrics, this.model);
    const idle = routing && this.idleExperts.noticeOf(metrics.step, routing);
    if (idle) this.hooks.onNotice?.(idle);
    if (!metrics.skipped) return;
    const { nonFiniteSteps } = this.state;
    const most = this.options.maxNonFiniteSteps ?? 5;
    this.hooks.onNotice?.(skippedNotice(metrics, routing, nonFiniteSteps, most));
    if (nonFiniteSteps >= most) throw diverged(`in ${most} steps in a row`, this.state, this.store);
  }

  /** Validation, evaluation and a checkpoint, where this step calls for them. */
  private async whatIsDue(): Promise<void> {
    const { validation, evaluation, samples, checkpoints: { everySteps = 1000, keepBest = true } = {} } = this.options;
    const { step, stage, stageStep, nonFiniteSteps } = this.state;
    const last = stage === this.stages.length;
    let isBest = false;
    if (validation && (step % validation.everySteps === 0 || last)) isBest = await this.validate(validation);
    const scored = evaluation && (step % evaluation.everySteps === 0 || last);
    if (scored) await evaluate(this.measured, evaluation);
    const sampled = samples && (step % samples.everySteps === 0 || last);
    if (sampled) await sample(this.measured, samples);
    // What comes of a step that was skipped is not known to be good before one that was not.
    const due = last || stageStep === 0 || step % everySteps === 0 || (isBest && keepBest);
    if (due && nonFiniteSteps === 0) await this.save();
    // Processes that write together go on meanwhile.
    if (validation || scored || sampled || (due && !this.saves)) this.clock = performance.now();
  }

  private get measured(): Measured {
    const { model, state: at, options, hooks, record } = this;
    return { model, at, options, hooks, record };
  }

  /** @returns whether no validation so far was better */
  private async validate(validation: NonNullable<TrainOptions['validation']>): Promise<boolean> {
    const { step, best } = this.state;
    const validationLoss = await validate(this.measured, validation);
    const isBest = Number.isFinite(validationLoss) && validationLoss < (best?.validationLoss ?? Infinity);
    if (isBest) this.state = { ...this.state, best: { step, validationLoss } };
    return isBest;
  }

  private async save(): Promise<void> {
    this.savedStep = this.state.step;
    const { model, optimizer, state, options, saves, store } = this;
    if (!saves && !store) return;
    const own = this.weights ? optimizer.parameters : model.parameters;
    // Of shared weights each process has its part.
    const sharedBy = this.weights && options.collective;
    await checkWorthSaving([...own.values(), ...optimizer.state().values()], sharedBy, state.step, store);
    this.record?.sync();
    if (saves) return await saves.begin(state);
    const moments = [...optimizer.state()].map(([name, moment]) => {
      return { name, shape: moment.shape, values: () => moment.dataSync() as Float32Array };
    });
    const directory = await store!.save({
      state,
      tokenizer: options.tokenizer,
      writeTensors: async (target) => {
        const eosTokenId = options.tokenizer?.eosId;
        const weights = await model.saveAsync(target, { checksum: true, eosTokenId });
        const rest = await writeSafetensorsAsync(join(target, OPTIMIZER_FILE), moments, { checksum: true });
        return new Map([
          [MODEL_FILE, weights!],
          [OPTIMIZER_FILE, rest!],
        ]);
      },
    });
    await this.hooks.onCheckpoint?.(directory);
  }

  private async result(): Promise<Omit<TrainResult, 'finished'>> {
    const { model, state, store } = this;
    const saved = this.savedStep === state.step; // the same in all processes, of which one has the files
    if (!saved && state.nonFiniteSteps > 0) {
      // Weights that gave no finite loss are not worth what saving them would push out.
      this.hooks.onNotice?.(`the last ${state.nonFiniteSteps} steps were not finite, so they are not saved`);
    } else if (!saved) await this.save();
    await this.saves?.end();
    return { model, state, checkpoint: store?.latest() };
  }
}

/** Does it now, and gives the result or the error when asked. */
function attempted<T>(run: () => T): () => T {
  try {
    const result = run();
    return () => result;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

const finiteOrNull = (value: number) => (Number.isFinite(value) ? value : null);
