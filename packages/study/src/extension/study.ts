/** Context extension: models trained at L go on at a multiple of it by the published recipe (appendix C.1, figure 8). */
import { join } from 'node:path';
import { type LlamaConfigInput, LlamaModel, parseConfig, resolveCheckpoint } from '@stickbreaking/model';
import { z } from 'zod';
import { AttentionInputSchema, common, count, defined } from '../config.js';
import type { Arm, ArmContext, Study } from '../study.js';
import { type Recipe, textStudy } from '../text/config.js';
import { evaluateText, lengthsUpTo, type TextEvaluation } from '../text/evaluate.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { type TrainedModel, type TrainingResult, trainOnText, withConfig } from '../text/train.js';
import { reportExtension } from './report.js';

const rate = z.number().positive();

const ArmSchema = z.strictObject({
  name: z.string().min(1),
  attention: AttentionInputSchema,
  /** The attention from the extension on, such as RoPE with its scaling; default: `attention`. */
  extended: AttentionInputSchema.optional(),
});

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
  arms: z.array(ArmSchema).min(1),
});

export type ExtensionConfig = z.output<typeof ExtensionConfigSchema>;
export type ExtensionResult = Partial<TrainingResult> & TextEvaluation;

/** Trained at L; the same weights under the extension's attention, where that differs; trained on at the longer context. */
export const phases = ['before', 'before, scaled', 'after'] as const;
export type Phase = (typeof phases)[number];

export const armId = (name: string, phase: Phase, seed: number) => `${name}, ${phase}, seed ${seed}`;

export function phasesOf({ extended }: ExtensionConfig['arms'][number]): Phase[] {
  return phases.filter((phase) => phase !== 'before, scaled' || extended !== undefined);
}

interface PlannedArm {
  arm: ExtensionConfig['arms'][number];
  phase: Phase;
  seed: number;
}

export const extensionStudy: Study<ExtensionConfig, ExtensionResult, PreparedText> = {
  kind: 'context-extension',
  schema: ExtensionConfigSchema as Study<ExtensionConfig>['schema'],
  arms: (config) => planned(config).map((one) => describe(config, one)),
  after: ({ id }, config) => {
    const { arm, phase, seed } = plannedOf(config, id);
    return phase === 'before' ? [] : [armId(arm.name, 'before', seed)];
  },
  prepare: ({ text }, context) => prepareText(text, context),
  run: async (arm, config, context, text) => {
    const one = plannedOf(config, arm.id);
    const trained = await trainedModel(config, one, text, context);
    if (!trained) return undefined;
    try {
      const lengths = lengthsUpTo(config.training.contextLength, config.evaluation.times);
      const { tokens } = config.evaluation;
      const evaluation = await evaluateText(trained.model, text, { lengths, tokens }, context);
      return evaluation && { ...trained.result, ...evaluation };
    } finally {
      trained.model.dispose();
    }
  },
  report: reportExtension,
};

function planned(config: ExtensionConfig): PlannedArm[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) => phasesOf(arm).map((phase) => ({ arm, phase, seed }))),
  );
}

const plannedOf = (config: ExtensionConfig, id: string) =>
  planned(config).find(({ arm: { name }, phase, seed }) => armId(name, phase, seed) === id)!;

function describe(config: ExtensionConfig, { arm, phase, seed }: PlannedArm): Arm {
  const { training, evaluation, extension } = config;
  const { folder: _, ...text } = config.text;
  const settings = { text, model: modelOf(config, arm, 'before'), training, evaluation, seed };
  const later = phase === 'before' ? {} : { extended: modelOf(config, arm, phase) };
  parseConfig(modelOf(config, arm, phase));
  return {
    id: armId(arm.name, phase, seed),
    settings: { ...settings, ...later, ...(phase === 'after' ? { extension } : {}) },
  };
}

/**
 * The model's configuration stays the one it was first trained with, its context length included: dynamic RoPE scaling
 * grows from there.
 */
function modelOf({ model, text, training }: ExtensionConfig, arm: PlannedArm['arm'], phase: Phase): LlamaConfigInput {
  const { contextLength } = training;
  const attention = phase === 'before' ? arm.attention : (arm.extended ?? arm.attention);
  return { ...defined(model), vocabSize: text.vocabSize, contextLength, attention } as LlamaConfigInput;
}

async function trainedModel(
  config: ExtensionConfig,
  { arm, phase, seed }: PlannedArm,
  text: PreparedText,
  context: ArmContext,
): Promise<(Omit<TrainedModel, 'result'> & { result: Partial<TrainingResult> }) | undefined> {
  const model = modelOf(config, arm, phase);
  if (phase === 'before') return trainOnText({ model, recipe: config.training, seed }, text, context);
  const start = resolveCheckpoint(join(context.folderOf(armId(arm.name, 'before', seed)), 'run'));
  if (phase === 'after')
    return trainOnText({ model, recipe: extensionRecipe(config), seed: seed + 1 }, text, context, start);
  const before = LlamaModel.load(start);
  try {
    return { model: withConfig(before, model), result: {} };
  } finally {
    before.dispose();
  }
}

/** Appendix C.1: up from 10⁻⁵ to 1.25·10⁻⁴ in 150 steps, then exponentially to zero. */
export function extensionRecipe({ training, extension }: ExtensionConfig): Recipe {
  const { factor, steps, batchTokens, microBatchTokens, warmupSteps, warmupFrom, peak } = extension;
  return {
    contextLength: factor * training.contextLength,
    batchTokens,
    ...(microBatchTokens === undefined ? {} : { microBatchTokens }),
    stages: [{ steps, schedule: { kind: 'exponential', peak, final: 0, rate: 5, warmupSteps, warmupFrom } }],
    optimizer: training.optimizer,
  };
}
