/** Length extrapolation: models trained at L, evaluated from L to many times it (section 5.2, figure 5). */
import { join } from 'node:path';
import { type LlamaConfigInput, LlamaModel, parseConfig, resolveCheckpoint } from '@stickbreaking/model';
import { defined } from '../config.js';
import type { Arm, ArmContext, Study } from '../study.js';
import { evaluateText, lengthsUpTo } from '../text/evaluate.js';
import { earlierThan, needless, withRate } from '../text/rates.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { trainOnText, withConfig } from '../text/train.js';
import { type ExtrapolationConfig, ExtrapolationConfigSchema, type ExtrapolationResult } from './config.js';
import { checkArms, type Planned, planned, plannedOf } from './plan.js';
import { reportExtrapolation } from './report.js';

export const extrapolationStudy: Study<ExtrapolationConfig, ExtrapolationResult, PreparedText> = {
  kind: 'length-extrapolation',
  schema: ExtrapolationConfigSchema as Study<ExtrapolationConfig>['schema'],
  arms: (config) => {
    checkArms(config);
    return planned(config).map((one) => describe(config, one));
  },
  needless: ({ id }, results, config) => needless(plannedOf(config, id), config.seeds[0]!, results),
  after: ({ id }, config) => earlierThan(plannedOf(config, id), config.seeds[0]!),
  prepare: ({ text }, context) => prepareText(text, context),
  run: ({ id }, config, context, text) => run(config, plannedOf(config, id), text, context),
  report: reportExtrapolation,
};

function describe(config: ExtrapolationConfig, { id, arm, trained, rate, seed }: Planned): Arm {
  const { evaluation } = config;
  const { folder: _, ...text } = config.text;
  const model = modelOf(config, arm.attention);
  parseConfig(model);
  const training = withRate(config.training, rate);
  const weights = arm === trained ? {} : { trainedAs: modelOf(config, trained.attention) };
  return { id, settings: { text, model, training, evaluation, seed, ...weights } };
}

function modelOf({ model, text, training }: ExtrapolationConfig, attention: unknown): LlamaConfigInput {
  const { contextLength } = training;
  return { ...defined(model), vocabSize: text.vocabSize, contextLength, attention } as LlamaConfigInput;
}

async function run(
  config: ExtrapolationConfig,
  { arm, trained, rate, seed, trainedId }: Planned,
  text: PreparedText,
  context: ArmContext,
): Promise<ExtrapolationResult | undefined> {
  const settings = { model: modelOf(config, arm.attention), recipe: withRate(config.training, rate), seed };
  const { model, result } =
    arm === trained
      ? ((await trainOnText(settings, text, context)) ?? {})
      : { model: weightsOf(context.folderOf(trainedId(rate, seed)), settings.model), result: {} };
  if (!model) return undefined;
  try {
    const lengths = lengthsUpTo(config.training.contextLength, config.evaluation.times);
    const { tokens } = config.evaluation;
    const evaluation = await evaluateText(model, text, { lengths, tokens }, context);
    return evaluation && { ...result, ...evaluation };
  } finally {
    model.dispose();
  }
}

function weightsOf(folder: string, change: LlamaConfigInput): LlamaModel {
  const trained = LlamaModel.load(resolveCheckpoint(join(folder, 'run')));
  try {
    return withConfig(trained, change);
  } finally {
    trained.dispose();
  }
}
