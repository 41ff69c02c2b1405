import { LlamaConfigSchema } from '@stickbreaking/model';
import { z } from 'zod';
import { AttentionInputSchema, armNames, common, learningRates, withId } from '../config.js';
import { EvaluationSchema, RecipeSchema, textStudy } from '../text/config.js';
import type { TextEvaluation } from '../text/evaluate.js';
import type { TrainingResult } from '../text/train.js';
import { type TaskScores, tasksSchema } from './tasks.js';

/** A model as any run has it, without what the study decides: vocabulary and context. */
const ModelSchema = LlamaConfigSchema.in
  .omit({ vocabSize: true, contextLength: true })
  .extend({ tieEmbeddings: z.boolean().default(true) });

/** What an arm is trained as; `set` and `grid` name its keys, such as `model.attention.initialReach`. */
export const VariantSchema = z.strictObject({ model: ModelSchema, training: RecipeSchema });

export type Variant = z.output<typeof VariantSchema>;

/** A value each for keys of model or training, such as `model.attention.initialReach`. */
const SetSchema = z.record(z.string(), z.unknown());
/** Several values each for such keys: every combination of them. */
const GridSchema = z.record(z.string(), z.array(z.unknown()).min(1));

const ArmSchema = z.strictObject({
  ...armNames,
  /** Default: the model's. */
  attention: AttentionInputSchema.optional(),
  set: SetSchema.optional(),
  grid: GridSchema.optional(),
  /** Default: the study's. */
  learningRates: learningRates.optional(),
});

const PredictionSchema = z.strictObject({
  /** Name of the arm that will have the lower loss, with what its grid adds to it, such as `ours, initialReach 32`. */
  lower: z.string().min(1),
  /** Name of the arm that it will be lower than. */
  than: z.string().min(1),
  /** Context length in tokens; default: the one of training. */
  at: z.int().positive().optional(),
  because: z.string().min(1).optional(),
});

/** `study: comparison`: any arms, on one's own question. */
export const ComparisonConfigSchema = z.strictObject({
  study: z.literal('comparison'),
  ...common,
  /** What is asked: the report's title. */
  question: z.string().min(1),
  ...textStudy,
  evaluation: EvaluationSchema.extend(tasksSchema),
  model: ModelSchema,
  /** What every arm is run with all combinations of. */
  grid: GridSchema.optional(),
  arms: z.array(ArmSchema.transform(withId)).min(1),
  /** Name of the arm that the others are measured against; default: the first. */
  baseline: z.string().min(1).optional(),
  /** What is expected, written down before anything is run; the report sets beside it what was found. */
  predictions: z.array(PredictionSchema).default([]),
});

export type ComparisonConfig = z.output<typeof ComparisonConfigSchema>;
export type Prediction = ComparisonConfig['predictions'][number];
export type ComparisonResult = Partial<TrainingResult> & TextEvaluation & { scores?: TaskScores | undefined };
