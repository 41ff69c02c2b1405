/** Trains one model of a study on text, through the public training loop. */
import { join } from 'node:path';
import { median, UserError } from '@stickbreaking/base';
import { type LoaderCursor, openDataset, PackedLoader, type TokenDataset } from '@stickbreaking/data';
import {
  type LlamaConfigInput,
  type LlamaModel,
  loadVerified,
  parseConfig,
  RefusedCheckpoint,
  resolveCheckpoint,
  type SummedFiles,
} from '@stickbreaking/model';
import {
  loadStart,
  type MetricsLine,
  meanLoss,
  readMetrics,
  type StageData,
  type StepMetrics,
  type TrainOptions,
  train,
  type ValidationMetrics,
} from '@stickbreaking/train';
import { z } from 'zod';
import type { ArmContext } from '../study.js';
import type { Recipe } from './config.js';
import { heldOutTokens, windowsOf } from './held_out.js';
import type { PreparedText } from './text.js';

export interface TrainingSettings {
  model: LlamaConfigInput;
  recipe: Recipe;
  seed: number;
  /** Look at this many held-out tokens after every so many steps, and at how far each layer looks. */
  validation?: { everySteps: number; tokens: number } | undefined;
}

export const TrainingResultSchema = z.object({
  parameters: z.number(),
  steps: z.number(),
  tokens: z.number(),
  /** Mean loss of the steps up to each point. */
  losses: z.array(z.object({ tokens: z.number(), loss: z.number() })),
  /** Of held-out text while it was trained. */
  validations: z
    .array(
      z.object({
        tokens: z.number(),
        loss: z.number(),
        /** By layer, over all heads: the mean distance in tokens of what is attended to, and what no key took. */
        distance: z.array(z.number()),
        remainder: z.array(z.number()).optional(),
        /** By layer: the part of the tiles that block skipping leaves out. */
        skipped: z.array(z.number()).optional(),
      }),
    )
    .optional(),
  /** Tokens/s, the median of the steps. */
  trainingSpeed: z.number().optional(),
});

export type TrainingResult = z.infer<typeof TrainingResultSchema>;

export interface TrainedModel {
  model: LlamaModel;
  result: TrainingResult;
}

/** The trained model, which the caller disposes of; undefined when the signal stopped it. */
export async function trainOnText(
  { model, recipe, seed, validation }: TrainingSettings,
  text: PreparedText,
  context: ArmContext,
  startFrom?: string,
): Promise<TrainedModel | undefined> {
  const { tokenizer } = text;
  const datasets = text.shards.map((shards) => openDataset(shards));
  const directory = join(context.directory, 'run');
  const { contextLength, batchTokens, microBatchTokens = batchTokens } = recipe;
  const steps = recipe.stages.reduce((sum, stage) => sum + stage.steps, 0);
  try {
    const data = packed(datasets, seed);
    const hashes = datasets.map(({ hash }) => hash);
    const trained = await train({
      model,
      seed,
      directory,
      resume: true,
      // What an arm trains on with is its subject: the study says how its attention differs.
      startFrom: startFrom === undefined ? undefined : { path: startFrom, allow: ['attention'] },
      optimizer: recipe.optimizer,
      tokenizer,
      identity: { tokenizer: tokenizer.hash, data: hashes.length === 1 ? hashes[0] : hashes, interleave: INTERLEAVE },
      checkpoints: { everySteps: 500, keepLast: 1, keepBest: false },
      validation: validation && (await validationOn(text, validation, recipe)),
      arithmetic: context.backend.arithmetic,
      signal: context.signal,
      stages: recipe.stages.map((stage, i) => ({
        ...stage,
        ...{ contextLength, batchTokens, microBatchTokens },
        ...(i === 0 ? { data } : {}),
      })),
      hooks: {
        onNotice: context.notice,
        onStep: ({ step, loss, tokensPerSecond }) =>
          context.say(
            `step ${step}/${steps}, loss ${loss?.toFixed(3) ?? 'not finite'}, ${Math.round(tokensPerSecond)} tokens/s`,
          ),
      },
    });
    if (!trained.finished) {
      trained.model.dispose();
      return undefined;
    }
    const parameters = [...trained.model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
    const metrics = readMetrics(join(directory, 'metrics.jsonl'));
    const { step, tokens } = trained.state;
    const result = { parameters, steps: step, tokens, losses: lossCurve(metrics), ...speedOf(metrics) };
    const validations = validation && { validations: validationsIn(metrics) };
    return { model: trained.model, result: { ...result, ...validations } };
  } finally {
    for (const dataset of datasets) dataset.close();
  }
}

/** Documents read in turns, so that a step of long documents is of more than one. */
const INTERLEAVE = 16;

/** Each folder of tokens comes as often as it is large. */
function packed(datasets: readonly TokenDataset[], seed: number): StageData {
  return {
    open: ({ contextLength, microBatchTokens }, cursor) =>
      new PackedLoader({
        mixture: datasets.map((dataset) => ({ dataset, weight: datasets.length === 1 ? 1 : dataset.tokens })),
        contextLength,
        microBatchTokens,
        interleave: INTERLEAVE, // books are long: without it a step would be of one book
        seed,
        ...(cursor === undefined ? {} : { cursor: cursor as LoaderCursor }),
      }),
  };
}

async function validationOn(
  { heldOut, tokenizer }: PreparedText,
  { everySteps, tokens }: NonNullable<TrainingSettings['validation']>,
  { contextLength, batchTokens, microBatchTokens = batchTokens }: Recipe,
): Promise<NonNullable<TrainOptions['validation']>> {
  const batches = windowsOf(await heldOutTokens(heldOut, tokenizer, tokens + 1), contextLength, microBatchTokens);
  const [sample] = batches;
  if (!sample) throw new UserError(`The held-out text has fewer tokens than one window of ${contextLength}.`);
  return { everySteps, sample, loss: (model) => meanLoss(model, batches) };
}

const isStep = (line: MetricsLine): line is StepMetrics => 'loss' in line;

/** About forty points of the run's loss. */
function lossCurve(metrics: readonly MetricsLine[]): TrainingResult['losses'] {
  const steps = metrics.filter(isStep).filter(({ loss }) => loss !== null);
  const width = Math.max(1, Math.ceil(steps.length / 40));
  const points: TrainingResult['losses'] = [];
  for (let begin = 0; begin + width <= steps.length; begin += width) {
    const some = steps.slice(begin, begin + width);
    const loss = some.reduce((sum, one) => sum + one.loss!, 0) / width;
    points.push({ tokens: some.at(-1)!.tokens, loss: Number(loss.toFixed(4)) });
  }
  return points;
}

function validationsIn(metrics: readonly MetricsLine[]): NonNullable<TrainingResult['validations']> {
  const short = (values: readonly number[]) => values.map((value) => Number(value.toPrecision(4)));
  return metrics
    .filter((line): line is ValidationMetrics => !isStep(line))
    .map(({ tokens, validationLoss, attention }) => ({
      ...{ tokens, loss: Number(validationLoss.toFixed(4)) },
      distance: short(attention?.distance ?? []),
      ...(attention?.remainder ? { remainder: short(attention.remainder) } : {}),
      ...(attention?.skipped ? { skipped: short(attention.skipped) } : {}),
    }));
}

/** The first steps compile kernels, and a step after a checkpoint waits for it: the median is of neither. */
export function speedOf(metrics: readonly MetricsLine[]): Pick<TrainingResult, 'trainingSpeed'> {
  const speeds = metrics.filter(isStep).map((line) => line.tokensPerSecond);
  return speeds.length === 0 ? {} : { trainingSpeed: Math.round(median(speeds)) };
}

/** The checkpoint of a model that was trained in an arm's folder. @throws RefusedCheckpoint where it is gone */
export function checkpointIn(folder: string): string {
  const run = join(folder, 'run');
  try {
    return resolveCheckpoint(run);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new RefusedCheckpoint(error.message, run, { cause: error });
  }
}

/**
 * A model that was trained in an arm's folder, under a configuration of the same parameters.
 *
 * @throws RefusedCheckpoint where its files are not as they were saved
 */
export async function loadTrained(
  folder: string,
  model: LlamaConfigInput,
): Promise<{ model: LlamaModel; result: object }> {
  const checkpoint = checkpointIn(folder);
  const load = (summed: SummedFiles | undefined) => loadStart(parseConfig(model), checkpoint, { summed });
  return { model: await loadVerified(checkpoint, { modelOnly: true }, load), result: {} };
}
