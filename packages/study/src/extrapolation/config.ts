import { z } from 'zod';
import { AttentionInputSchema, armNames, common, learningRates, withId } from '../config.js';
import { textStudy } from '../text/config.js';
import type { TextEvaluation } from '../text/evaluate.js';
import type { TrainingResult } from '../text/train.js';

const ArmSchema = z.strictObject({
  ...armNames,
  attention: AttentionInputSchema,
  /** Take the weights of the arm with this id instead of training: a RoPE scaling applied to a model trained without it. */
  of: z.string().min(1).optional(),
  /** Default: the study's. */
  learningRates: learningRates.optional(),
});

/** `study: length-extrapolation`: section 5.2 of the paper, figure 5. */
export const ExtrapolationConfigSchema = z.strictObject({
  study: z.literal('length-extrapolation'),
  ...common,
  ...textStudy,
  arms: z.array(ArmSchema.transform(withId)).min(1),
});

export type ExtrapolationConfig = z.output<typeof ExtrapolationConfigSchema>;
export type ExtrapolationArm = ExtrapolationConfig['arms'][number];
export type ExtrapolationResult = Partial<TrainingResult> & TextEvaluation;
