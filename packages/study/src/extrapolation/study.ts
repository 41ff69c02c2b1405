/** Length extrapolation: models trained at L, evaluated from L to many times it (section 5.2, figure 5). */
import { parseConfig } from '@stickbreaking/model';
import type { Arm, ArmContext, Study } from '../study.js';
import { modelOf, settingsOf } from '../text/config.js';
import { evaluateTrained, TextResultSchema } from '../text/evaluate.js';
import { earlierThan, whySkipped, withRate } from '../text/rates.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { loadTrained, trainOnText } from '../text/train.js';
import { type ExtrapolationConfig, ExtrapolationConfigSchema, type ExtrapolationResult } from './config.js';
import { checkArms, type Planned, planned, plannedOf } from './plan.js';
import { reportExtrapolation } from './report.js';

export const extrapolationStudy: Study<ExtrapolationConfig, ExtrapolationResult, PreparedText> = {
  kind: 'length-extrapolation',
  schema: ExtrapolationConfigSchema as Study<ExtrapolationConfig>['schema'],
  result: TextResultSchema,
  arms: (config) => {
    checkArms(config);
    return planned(config).map((one) => describe(config, one));
  },
  whySkipped: ({ id }, results, config) => whySkipped(plannedOf(config, id), config.seeds[0]!, results),
  after: ({ id }, config) => earlierThan(plannedOf(config, id), config.seeds[0]!),
  prepare: ({ text }, context) => prepareText(text, context),
  run: async ({ id }, config, context, text) => {
    const trained = await trainedModel(config, plannedOf(config, id), text, context);
    return evaluateTrained(trained, config, text, context);
  },
  report: reportExtrapolation,
};

function describe(config: ExtrapolationConfig, { id, arm, trained, rate, seed }: Planned): Arm {
  const model = modelOf(config, arm.attention);
  parseConfig(model);
  const settings = settingsOf(config, model, withRate(config.training, rate), seed);
  const weights = arm === trained ? {} : { trainedAs: modelOf(config, trained.attention) };
  return { id, settings: { ...settings, ...weights } };
}

async function trainedModel(
  config: ExtrapolationConfig,
  { arm, trained, rate, seed, trainedId }: Planned,
  text: PreparedText,
  context: ArmContext,
) {
  const model = modelOf(config, arm.attention);
  if (arm !== trained) return loadTrained(context.folderOf(trainedId(rate, seed)), model);
  return trainOnText({ model, recipe: withRate(config.training, rate), seed }, text, context);
}
