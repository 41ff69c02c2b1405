/** Context extension: models trained at L go on at a multiple of it by the published recipe (appendix C.1, figure 8). */
import { parseConfig } from '@stickbreaking/model';
import type { Arm, ArmContext, Study } from '../study.js';
import { modelOf, type Recipe, settingsOf } from '../text/config.js';
import { evaluateTrained, TextResultSchema } from '../text/evaluate.js';
import { earlierThan, whySkipped, withRate } from '../text/rates.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { checkpointIn, loadTrained, trainOnText } from '../text/train.js';
import { type ExtensionArm, type ExtensionConfig, ExtensionConfigSchema, type ExtensionResult } from './config.js';
import { type Phase, type Planned, planned, plannedOf } from './plan.js';
import { reportExtension } from './report.js';

export const extensionStudy: Study<ExtensionConfig, ExtensionResult, PreparedText> = {
  kind: 'context-extension',
  schema: ExtensionConfigSchema as Study<ExtensionConfig>['schema'],
  result: TextResultSchema,
  arms: (config) => planned(config).map((one) => describe(config, one)),
  whySkipped: ({ id }, results, config) => whySkipped(plannedOf(config, id), config.seeds[0]!, results),
  after: ({ id }, config) => earlierThan(plannedOf(config, id), config.seeds[0]!),
  prepare: ({ text }, context) => prepareText(text, context),
  run: async ({ id }, config, context, text) => {
    const trained = await trainedModel(config, plannedOf(config, id), text, context);
    return evaluateTrained(trained, config, text, context);
  },
  report: reportExtension,
};

function describe(config: ExtensionConfig, { id, arm, phase, rate, seed }: Planned): Arm {
  const extended = modelOf(config, attentionOf(arm, phase));
  parseConfig(extended);
  return {
    id,
    settings: {
      ...settingsOf(config, modelOf(config, arm.attention), withRate(config.training, rate), seed),
      ...(phase === 'before' ? {} : { extended }),
      ...(phase === 'after' ? { extension: config.extension } : {}),
    },
  };
}

function attentionOf(arm: ExtensionArm, phase: Phase) {
  return phase === 'before' ? arm.attention : (arm.extended ?? arm.attention);
}

/**
 * The model's configuration stays the one it was first trained with, its context length included: dynamic RoPE scaling
 * grows from there.
 */
async function trainedModel(
  config: ExtensionConfig,
  { arm, phase, rate, seed, trainedId }: Planned,
  text: PreparedText,
  context: ArmContext,
) {
  const model = modelOf(config, attentionOf(arm, phase));
  if (phase === 'before') return trainOnText({ model, recipe: withRate(config.training, rate), seed }, text, context);
  const folder = context.folderOf(trainedId(rate, seed));
  if (phase === 'before, scaled') return loadTrained(folder, model);
  const start = checkpointIn(folder);
  return trainOnText({ model, recipe: extensionRecipe(config), seed: seed + 1 }, text, context, start);
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
