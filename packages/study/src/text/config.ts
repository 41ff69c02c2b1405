/** Shared by the studies on text: the text, the model's sizes, and how it is trained. */
import { SourceConfigSchema, TokenizerConfigSchema } from '@stickbreaking/data';
import type { LlamaConfigInput } from '@stickbreaking/model';
import { OptimizerSchema, ScheduleSchema } from '@stickbreaking/train';
import { z } from 'zod';
import { count, defined, learningRates, ModelSizesSchema } from '../config.js';

export const TextSchema = z
  .strictObject({
    /** Sources to train on, as in a run's `data`. Without them: the State of the Union addresses. */
    train: z.array(SourceConfigSchema).min(1).optional(),
    /**
     * Folders of tokens that were made from the text elsewhere, in place of `train`, for a machine that lacks it; they need
     * `tokenizer`.
     */
    tokens: z.array(z.string().min(1)).min(1).optional(),
    /** Text that is only evaluated on: a file, a folder or a glob, or a source as in `train`. */
    heldOut: z.union([z.string().min(1), SourceConfigSchema]).optional(),
    /** Where text and tokens are kept, to be shared by studies; default: the study's own folder. */
    folder: z.string().min(1).optional(),
    /** tokenizer.json, or `path` with the tokens that begin and end documents; default: one of `vocabSize` trained on the text. */
    tokenizer: TokenizerConfigSchema.optional(),
    vocabSize: count.default(2048),
    /** Bytes of text that a tokenizer is trained on. */
    tokenizerBytes: count.default(2 ** 26),
  })
  .refine(({ train, tokens, heldOut }) => (train === undefined && tokens === undefined) === (heldOut === undefined), {
    error: 'expected both train and heldOut, or neither of them',
  })
  .refine(({ train, tokens, tokenizer }) => tokens === undefined || (train === undefined && tokenizer !== undefined), {
    error: 'expected the tokenizer that tokens were made with, and no train',
  });

export type TextConfig = z.output<typeof TextSchema>;

export const RecipeSchema = z.strictObject({
  /** L: the context that models are trained at. */
  contextLength: count,
  batchTokens: count,
  microBatchTokens: count.optional(),
  stages: z.array(z.strictObject({ steps: count, schedule: ScheduleSchema })).min(1),
  optimizer: OptimizerSchema.prefault({}),
});

export type Recipe = z.output<typeof RecipeSchema>;

export const EvaluationSchema = z.strictObject({
  /** Tokens of held-out text to look at. */
  tokens: count.default(262_144),
  /** The longest context, in training lengths: a power of two. */
  times: count,
  /** Look at the first `tokens` of the held-out text, at the training length, after every `everySteps` steps too. */
  during: z.strictObject({ everySteps: count, tokens: count.default(65_536) }).optional(),
});

export const textStudy = {
  text: TextSchema.prefault({}),
  model: ModelSizesSchema,
  training: RecipeSchema,
  /** Peaks of the first stage to try with each method, the best kept (`rates.ts`); default: the recipe's alone. */
  learningRates: learningRates.optional(),
  evaluation: EvaluationSchema,
  seeds: z.array(z.int().nonnegative()).min(1).default([0]),
};

const TextStudySchema = z.strictObject(textStudy);

export type TextStudyConfig = z.output<typeof TextStudySchema>;

/** A model of the study. */
export function modelOf({ model, text, training }: TextStudyConfig, attention: unknown): LlamaConfigInput {
  const { contextLength } = training;
  return { ...defined(model), vocabSize: text.vocabSize, contextLength, attention } as LlamaConfigInput;
}

/** What the result of training and evaluating a model depends on; not where its text is stored. */
export function settingsOf(
  config: Pick<TextStudyConfig, 'text' | 'evaluation'>,
  model: LlamaConfigInput,
  recipe: Recipe,
  seed: number,
) {
  const { folder: _, ...text } = config.text;
  return { text, model, training: recipe, evaluation: config.evaluation, seed };
}
