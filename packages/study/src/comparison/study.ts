/** A comparison of any arms: one's own question, asked with the text studies' training and evaluation. */
import { type LlamaConfigInput, parseConfig } from '@stickbreaking/model';
import { defined } from '../config.js';
import type { Arm, Study } from '../study.js';
import { settingsOf } from '../text/config.js';
import { evaluateTrained, TextResultSchema } from '../text/evaluate.js';
import { earlierThan, whySkipped, withRate } from '../text/rates.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { trainOnText } from '../text/train.js';
import { type ComparisonConfig, ComparisonConfigSchema, type ComparisonResult } from './config.js';
import { checkNames, type Planned, planned, plannedOf } from './plan.js';
import { reportComparison } from './report.js';
import { openTasks, TaskScoresSchema, withScores } from './tasks.js';

export const comparisonStudy: Study<ComparisonConfig, ComparisonResult, PreparedText> = {
  kind: 'comparison',
  schema: ComparisonConfigSchema as Study<ComparisonConfig>['schema'],
  result: TextResultSchema.extend({ scores: TaskScoresSchema.optional() }),
  arms: (config) => {
    checkNames(config);
    return planned(config).map((one) => describe(config, one));
  },
  whySkipped: ({ id }, results, config) => whySkipped(plannedOf(config, id), config.seeds[0]!, results),
  after: ({ id }, config) => earlierThan(plannedOf(config, id), config.seeds[0]!),
  prepare: ({ text }, context) => prepareText(text, context),
  run: async ({ id }, config, context, text) => {
    const one = plannedOf(config, id);
    const { during: validation } = config.evaluation;
    const recipe = recipeOf(one);
    const tasks = await openTasks(config.evaluation, text, recipe.contextLength);
    const trained = await trainOnText(
      { model: modelOf(config, one), recipe, seed: one.seed, validation },
      text,
      context,
    );
    const scored = await withScores(trained, tasks, context);
    return evaluateTrained(scored, { training: recipe, evaluation: config.evaluation }, text, context);
  },
  report: reportComparison,
};

const recipeOf = ({ variant, rate }: Planned) => withRate(variant.training, rate);

function modelOf({ text }: ComparisonConfig, { variant }: Planned): LlamaConfigInput {
  const { model, training } = variant;
  return { ...defined(model), vocabSize: text.vocabSize, contextLength: training.contextLength } as LlamaConfigInput;
}

function describe(config: ComparisonConfig, one: Planned): Arm {
  const model = modelOf(config, one);
  parseConfig(model);
  // Not where the tasks' data lies.
  const { dataDir: _, ...evaluation } = config.evaluation;
  return { id: one.id, settings: settingsOf({ ...config, evaluation }, model, recipeOf(one), one.seed) };
}
