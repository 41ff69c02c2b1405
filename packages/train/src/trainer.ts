// The training loop. A step reads: micro-batches → gradients, summed → their norm → AdamW, or a skip when something is
// not finite → metrics → now and then validation and a checkpoint.
import { setImmediate as breathe } from 'node:timers/promises';
import { globalNorm } from '@stickbreaking/core';
import { type Batch, PackedLoader } from '@stickbreaking/data';
import type { LlamaModel } from '@stickbreaking/model';
import { add, type Scalar, type Tensor, tidy } from '@tensorflow/tfjs-core';
import type { CheckpointStore, TrainingState } from './checkpoint.js';
import { type RunData, stageLoader } from './data.js';
import { TrainError } from './errors.js';
import type { MetricsFile, StepMetrics, ValidationMetrics } from './metrics.js';
import type { Optimizer } from './optimizer.js';
import { saveTensors } from './run_state.js';
import type { RunConfig, Stage } from './run_config.js';
import { learningRate } from './schedule.js';

export interface TrainerParts {
  run: RunConfig;
  stages: readonly Stage[];
  data: RunData;
  model: LlamaModel;
  optimizer: Optimizer;
  state: TrainingState;
  checkpoints: CheckpointStore;
  metrics: MetricsFile;
}

export interface TrainerEvents {
  onStep?: (metrics: StepMetrics) => void;
  onValidation?: (metrics: ValidationMetrics) => void;
  onCheckpoint?: (directory: string) => void;
  /** A step was skipped; the line says why. */
  onWarning?: (line: string) => void;
  /** Stops after the step under way, with a checkpoint. */
  signal?: AbortSignal;
}

/** Trains until the last stage's end, or until the signal. Returns the directory of the last checkpoint. */
export async function trainLoop(parts: TrainerParts, events: TrainerEvents): Promise<string> {
  const { run, stages, state, data } = parts;
  let checkpointedAt = performance.now();
  const checkpoint = async () => {
    const directory = await saveCheckpoint(parts);
    checkpointedAt = performance.now();
    events.onCheckpoint?.(directory);
    return directory;
  };
  for (; ; state.stage++, state.stageStep = 0, state.cursor = null) {
    const stage = stages[state.stage]!;
    const lastStage = state.stage === stages.length - 1;
    const loader = stageLoader(run, data, stages, state.stage, state.cursor);
    while (state.stageStep < stage.steps) {
      const metrics = await trainStep(parts, loader, stage);
      parts.metrics.append(metrics);
      events.onStep?.(metrics);
      if (metrics.skipped) await afterSkip(parts, metrics, events);

      const last = lastStage && state.stageStep === stage.steps;
      const improved = (await validateWhenDue(parts, stage, last, events)) && run.checkpoint.keepBest;
      const minutes = (performance.now() - checkpointedAt) / 60_000;
      if (events.signal?.aborted) return checkpoint();
      if (!last && (improved || checkpointDue(run, state, stage, minutes))) await checkpoint();
      await breathe(); // signals and timers get their turn
    }
    if (lastStage) return checkpoint();
  }
}

/** One optimizer step; moves `state` on. */
async function trainStep(parts: TrainerParts, loader: PackedLoader, stage: Stage): Promise<StepMetrics> {
  const { state, optimizer, stages } = parts;
  const start = performance.now();
  const { loss, gradients } = await accumulate(parts.model, loader, stage);
  const norm = globalNorm([...gradients.values()]);
  const [lossValue, gradientNorm] = [(await loss.data())[0]!, (await norm.data())[0]!];
  const finite = Number.isFinite(lossValue) && Number.isFinite(gradientNorm);
  const rate = learningRate(stages, state.stage, state.stageStep);
  if (finite) optimizer.update(gradients, gradientNorm, rate);
  for (const tensor of [loss, norm, ...gradients.values()]) tensor.dispose();

  state.step++;
  state.stageStep++;
  state.updates = optimizer.updates;
  state.tokens += stage.batchTokens;
  state.nonFiniteSteps = finite ? 0 : state.nonFiniteSteps + 1;
  state.cursor = loader.cursor();
  return {
    step: state.step,
    stage: state.stage + 1,
    tokens: state.tokens,
    loss: Number.isFinite(lossValue) ? lossValue : null,
    learningRate: rate,
    gradientNorm: Number.isFinite(gradientNorm) ? gradientNorm : null,
    tokensPerSecond: Math.round((stage.batchTokens / (performance.now() - start)) * 1e6) / 1000,
    ...(!finite && { skipped: true }),
  };
}

/** Mean loss and gradients over a batch, micro-batch by micro-batch, always in the same order. */
async function accumulate(model: LlamaModel, loader: PackedLoader, stage: Stage) {
  const scale = 1 / stage.batchTokens; // packing leaves no token unscored
  let total: { loss: Scalar; gradients: Map<string, Tensor> } | undefined;
  for (let done = 0; done < stage.batchTokens; done += stage.microBatchTokens) {
    const part = model.gradients(loader.next(), { scale });
    total = total ? sum(total, part) : part;
    await breathe();
  }
  return total!;
}

type Gradients = { loss: Scalar; gradients: Map<string, Tensor> };

function sum(a: Gradients, b: Gradients): Gradients {
  const plus = <T extends Tensor>(x: T, y: T): T => {
    const result = add<T>(x, y);
    x.dispose();
    y.dispose();
    return result;
  };
  const gradients = new Map([...a.gradients].map(([name, x]) => [name, plus(x, b.gradients.get(name)!)]));
  return { loss: plus(a.loss, b.loss), gradients };
}

async function afterSkip(parts: TrainerParts, metrics: StepMetrics, events: TrainerEvents): Promise<void> {
  const { state, run, checkpoints } = parts;
  const what = metrics.loss === null ? 'loss' : 'gradient';
  events.onWarning?.(`step ${metrics.step} skipped: its ${what} is not finite (${state.nonFiniteSteps} in a row)`);
  if (state.nonFiniteSteps < run.maxNonFiniteSteps) return;
  const good = checkpoints.latest();
  const advice = good
    ? `the last good checkpoint is ${good}`
    : 'there is no checkpoint yet; begin again with a lower learning rate';
  throw new TrainError(
    `stopped at step ${metrics.step}: loss or gradient was not finite ${state.nonFiniteSteps} steps in a row; ${advice}.`,
  );
}

/** Returns whether the validation loss is the lowest so far. */
async function validateWhenDue(parts: TrainerParts, stage: Stage, last: boolean, events: TrainerEvents) {
  const { run, state } = parts;
  if (!run.validation || !(last || state.step % run.validation.everySteps === 0)) return false;
  const validationLoss = await validate(parts, stage);
  const metrics = { step: state.step, tokens: state.tokens, validationLoss };
  parts.metrics.append(metrics);
  events.onValidation?.(metrics);
  if (!(validationLoss < (state.best?.validationLoss ?? Number.POSITIVE_INFINITY))) return false;
  state.best = { step: state.step, validationLoss };
  return true;
}

/** Mean loss over the validation tokens, the same ones each time. */
async function validate({ run, data, model }: TrainerParts, stage: Stage): Promise<number> {
  const { contextLength, microBatchTokens } = stage;
  const mixture = data.validation!;
  const loader = new PackedLoader({ mixture, contextLength, microBatchTokens, seed: 0 });
  const available = mixture.reduce((tokens, { dataset }) => tokens + dataset.tokens - dataset.documents, 0);
  const batches = Math.max(1, Math.floor(Math.min(run.validation!.tokens, available) / microBatchTokens));
  let total = 0;
  for (let i = 0; i < batches; i++) {
    total += await sumOfLosses(model, loader.next());
    await breathe();
  }
  return total / (batches * microBatchTokens);
}

async function sumOfLosses(model: LlamaModel, batch: Batch): Promise<number> {
  const loss = tidy(() => model.tokenLosses(batch).sum());
  const value = (await loss.data())[0]!;
  loss.dispose();
  return value;
}

function checkpointDue(run: RunConfig, state: TrainingState, stage: Stage, minutes: number): boolean {
  const { everySteps, everyTokens, everyMinutes } = run.checkpoint;
  const before = state.tokens - stage.batchTokens;
  return (
    (everySteps !== undefined && state.step % everySteps === 0) ||
    (everyTokens !== undefined && Math.floor(state.tokens / everyTokens) > Math.floor(before / everyTokens)) ||
    (everyMinutes !== undefined && minutes >= everyMinutes)
  );
}

function saveCheckpoint(parts: TrainerParts): Promise<string> {
  const { checkpoints, metrics, state, data, model, optimizer } = parts;
  metrics.sync();
  return checkpoints.save({
    state,
    tokenizerPath: data.tokenizer.path,
    writeTensors: (directory) => saveTensors(directory, model, optimizer),
  });
}
