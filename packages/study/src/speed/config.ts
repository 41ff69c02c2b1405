/** The configuration of a study of speed. */
import { z } from 'zod';
import { AttentionInputSchema, armNames, common, count, ModelSizesSchema, withId } from '../config.js';
import { RecipeSchema, TextSchema } from '../text/config.js';

export const SpeedConfigSchema = z.strictObject({
  study: z.literal('speed'),
  ...common,
  model: ModelSizesSchema,
  vocabSize: count,
  /** Context lengths to measure at. */
  lengths: z.array(count).min(1),
  /** Tokens of a step; one whole document where the length is longer. */
  tokens: count,
  warmupSteps: z.int().nonnegative().default(1),
  steps: count.default(3),
  /** A measurement that takes longer is abandoned. */
  secondsAtMost: count.default(120),
  arms: z
    .array(
      z
        .strictObject({ ...armNames, attention: AttentionInputSchema, lengths: z.array(count).optional() })
        .transform(withId),
    )
    .min(1),
  /** Where stick-breaking attends, and the tiles it skips, on held-out text. */
  skipping: z
    .strictObject({
      text: TextSchema.prefault({}),
      /**
       * A checkpoint or run directory with its tokenizer; without one a model is trained, with `model` and `training`.
       */
      checkpoint: z.string().min(1).optional(),
      model: ModelSizesSchema.optional(),
      training: RecipeSchema.optional(),
      seed: z.int().nonnegative().default(0),
      /** Tokens of the text's windows, and how many of them are looked at. */
      length: count,
      windows: count.default(1),
    })
    .refine(({ checkpoint, model, training }) => checkpoint !== undefined || (model && training), {
      error: 'expected a checkpoint, or model and training',
    })
    .optional(),
});

export type SpeedConfig = z.output<typeof SpeedConfigSchema>;
