import { z } from 'zod';
import { AttentionInputSchema, armNames, common, count, learningRates, rate, withId } from '../config.js';
import { textStudy } from '../text/config.js';
import type { TextEvaluation } from '../text/evaluate.js';
import type { TrainingResult } from '../text/train.js';

const ArmSchema = z.strictObject({
  ...armNames,
  attention: AttentionInputSchema,
  /** The attention from the extension on, such as RoPE with its scaling; default: `attention`. */
  extended: AttentionInputSchema.optional(),
  /** Of the first training; default: the study's. */
  learningRates: learningRates.optional(),
});

/** `study: context-extension`: appendix C.1 of the paper, figure 8. */
export const ExtensionConfigSchema = z.strictObject({
  study: z.literal('context-extension'),
  ...common,
  ...textStudy,
  /** The second training: by default the published learning rates, exponential to zero after a warm-up. */
  extension: z.strictObject({
    /** The new context, in training lengths. */
    factor: count.default(4),
    steps: count,
    batchTokens: count,
    microBatchTokens: count.optional(),
    warmupSteps: z.int().nonnegative().default(150),
    warmupFrom: rate.default(1e-5),
    peak: rate.default(1.25e-4),
  }),
  arms: z.array(ArmSchema.transform(withId)).min(1),
});

export type ExtensionConfig = z.output<typeof ExtensionConfigSchema>;
export type ExtensionArm = ExtensionConfig['arms'][number];
export type ExtensionResult = Partial<TrainingResult> & TextEvaluation;
