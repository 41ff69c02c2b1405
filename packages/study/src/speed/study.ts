/** Speed: training steps of every attention by context length, and the tiles that stick-breaking leaves out on real text. */
import { type LlamaConfigInput, parseConfig } from '@stickbreaking/model';
import { z } from 'zod';
import { AttentionInputSchema, armNames, common, count, defined, ModelSizesSchema, withId } from '../config.js';
import type { Arm, Study } from '../study.js';
import { RecipeSchema, TextSchema } from '../text/config.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { type MeasureRequest, type MeasureResult, measureApart } from './measure.js';
import { reportSpeed } from './report.js';
import { type SkippingResult, skippingOnText } from './skipping.js';

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
  /** A measurement that takes longer is given up. */
  secondsAtMost: count.default(120),
  arms: z
    .array(
      z
        .strictObject({ ...armNames, attention: AttentionInputSchema, lengths: z.array(count).optional() })
        .transform(withId),
    )
    .min(1),
  /** Where stick-breaking attends, and the tiles it leaves out, on held-out text. */
  skipping: z
    .strictObject({
      text: TextSchema.prefault({}),
      /** A checkpoint or run directory with its tokenizer; without one a model is trained, with `model` and `training`. */
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
export type SpeedResult = MeasureResult | SkippingResult;

export const speedId = (arm: string, length: number) => `${arm}, ${length} tokens`;
export const SKIPPING = 'tiles on real text';

export const speedStudy: Study<SpeedConfig, SpeedResult, PreparedText | undefined> = {
  kind: 'speed',
  measures: true,
  schema: SpeedConfigSchema as Study<SpeedConfig>['schema'],
  arms: (config) => [...measurements(config), ...skippingArm(config)],
  prepare: async ({ skipping }, context, arms) =>
    skipping && arms.some(({ id }) => id === SKIPPING) ? prepareText(skipping.text, context) : undefined,
  run: (arm, { skipping }, context, text) =>
    arm.id === SKIPPING
      ? skippingOnText(skipping!, text!, context)
      : measureApart(
          { ...(arm.settings as unknown as Omit<MeasureRequest, 'backend'>), backend: context.backend.name },
          context,
        ),
  report: reportSpeed,
};

function measurements(config: SpeedConfig): Arm[] {
  const { vocabSize, warmupSteps, steps, secondsAtMost } = config;
  return config.arms.flatMap(({ id, attention, lengths = config.lengths }) =>
    lengths.map((length) => {
      const tokens = Math.max(length, Math.floor(config.tokens / length) * length);
      const model = { ...defined(config.model), vocabSize, contextLength: length, attention } as LlamaConfigInput;
      parseConfig(model);
      return { id: speedId(id, length), settings: { model, length, tokens, warmupSteps, steps, secondsAtMost } };
    }),
  );
}

function skippingArm({ skipping }: SpeedConfig): Arm[] {
  if (!skipping) return [];
  const { text, ...rest } = skipping;
  const { folder: _, ...what } = text;
  return [{ id: SKIPPING, settings: { ...rest, text: what } }];
}
