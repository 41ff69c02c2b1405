/** Context extension: models trained at L go on at a multiple of it by the published recipe (appendix C.1, figure 8). */
import { join } from 'node:path';
import { type LlamaConfigInput, LlamaModel, parseConfig, resolveCheckpoint } from '@stickbreaking/model';
import { defined } from '../config.js';
import type { Arm, ArmContext, Study } from '../study.js';
import type { Recipe } from '../text/config.js';
import { evaluateText, lengthsUpTo } from '../text/evaluate.js';
import { earlierThan, needless, withRate } from '../text/rates.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { type TrainedModel, type TrainingResult, trainOnText, withConfig } from '../text/train.js';
import { type ExtensionConfig, ExtensionConfigSchema, type ExtensionResult } from './config.js';
import { type Phase, type Planned, planned, plannedOf } from './plan.js';
import { reportExtension } from './report.js';

export const extensionStudy: Study<ExtensionConfig, ExtensionResult, PreparedText> = {
  kind: 'context-extension',
  schema: ExtensionConfigSchema as Study<ExtensionConfig>['schema'],
  arms: (config) => planned(config).map((one) => describe(config, one)),
  needless: ({ id }, results, config) => needless(plannedOf(config, id), config.seeds[0]!, results),
  after: ({ id }, config) => earlierThan(plannedOf(config, id), config.seeds[0]!),
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

function describe(config: ExtensionConfig, { id, arm, phase, rate, seed }: Planned): Arm {
  const { evaluation, extension } = config;
  const { folder: _, ...text } = config.text;
  const training = withRate(config.training, rate);
  const settings = { text, model: modelOf(config, arm, 'before'), training, evaluation, seed };
  const later = phase === 'before' ? {} : { extended: modelOf(config, arm, phase) };
  parseConfig(modelOf(config, arm, phase));
  return {
    id,
    settings: { ...settings, ...later, ...(phase === 'after' ? { extension } : {}) },
  };
}

/**
 * The model's configuration stays the one it was first trained with, its context length included: dynamic RoPE scaling
 * grows from there.
 */
function modelOf({ model, text, training }: ExtensionConfig, arm: Planned['arm'], phase: Phase): LlamaConfigInput {
  const { contextLength } = training;
  const attention = phase === 'before' ? arm.attention : (arm.extended ?? arm.attention);
  return { ...defined(model), vocabSize: text.vocabSize, contextLength, attention } as LlamaConfigInput;
}

async function trainedModel(
  config: ExtensionConfig,
  { arm, phase, rate, seed, trainedId }: Planned,
  text: PreparedText,
  context: ArmContext,
): Promise<(Omit<TrainedModel, 'result'> & { result: Partial<TrainingResult> }) | undefined> {
  const model = modelOf(config, arm, phase);
  if (phase === 'before') return trainOnText({ model, recipe: withRate(config.training, rate), seed }, text, context);
  const start = resolveCheckpoint(join(context.folderOf(trainedId(rate, seed)), 'run'));
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
