// Measuring the model between steps: its validation loss, its scores on tasks, texts that it writes. What comes of it is written
// down and told; one that is stopped is told, and not written.
import { attentionReach, type LlamaModel } from '@stickbreaking/model';
import type { TrainingState } from './checkpoint.js';
import type { Evaluation } from './evaluation.js';
import type { EvaluationMetrics, ValidationMetrics } from './metrics.js';
import type { RunRecord } from './run_record.js';
import type { Sampling } from './samples.js';
import type { TrainHooks, TrainOptions } from './train_options.js';

/** The run that is measured. */
export interface Measured {
  model: LlamaModel;
  /** Where it stands. */
  at: Pick<TrainingState, 'step' | 'tokens'>;
  options: Pick<TrainOptions, 'signal' | 'collective'>;
  hooks: TrainHooks;
  /** In the process that writes. */
  record: RunRecord | undefined;
}

/** @returns the validation loss */
export async function validate(
  { model, at: { step, tokens }, options, hooks, record }: Measured,
  validation: NonNullable<TrainOptions['validation']>,
): Promise<number> {
  const validationLoss = await validation.loss(model);
  const looks = record ?? options.collective?.passesTogether;
  const attention = looks && validation.sample && attentionReach(model, validation.sample);
  const metrics: ValidationMetrics = { step, tokens, validationLoss, ...(attention ? { attention } : {}) };
  record?.append(metrics);
  await hooks.onValidation?.(metrics, model);
  return validationLoss;
}

/** In the first process alone: all have the same weights. */
export async function sample(
  { model, at: { step, tokens }, options: { signal, collective }, hooks, record }: Measured,
  samples: Sampling,
): Promise<void> {
  if (collective && collective.rank > 0) return;
  try {
    for (const text of await samples.write(model, signal)) {
      const sample = { step, tokens, ...text };
      record?.appendSample(sample);
      await hooks.onSample?.(sample);
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
    hooks.onNotice?.(`the samples of step ${step} were stopped`);
  }
}

export async function evaluate(
  { model, at: { step, tokens }, options: { signal }, hooks, record }: Measured,
  evaluation: Evaluation,
): Promise<void> {
  const onProgress = (done: number, total: number, what: string) => hooks.onEvaluating?.(done, total, what);
  let metrics: EvaluationMetrics;
  try {
    metrics = { step, tokens, scores: await evaluation.scores(model, { signal, onProgress }) };
  } catch (error) {
    if (!signal?.aborted) throw error;
    hooks.onNotice?.(`the evaluation of step ${step} was stopped, and is not in the metrics`);
    return;
  }
  record?.append(metrics);
  await hooks.onEvaluation?.(metrics, model);
}
