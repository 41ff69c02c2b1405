/** Length extrapolation: models trained at L, evaluated from L to many times it (section 5.2, figure 5). */

import { join } from 'node:path';
import { UserError } from '@stickbreaking/core';
import type { LlamaConfigInput } from '@stickbreaking/model';
import { LlamaModel, parseConfig, resolveCheckpoint } from '@stickbreaking/model';
import { z } from 'zod';
import { AttentionInputSchema, common, defined } from '../config.js';
import type { Arm, ArmContext, Study } from '../study.js';
import { textStudy } from '../text/config.js';
import { evaluateText, lengthsUpTo, type TextEvaluation } from '../text/evaluate.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { type TrainingResult, trainOnText, withConfig } from '../text/train.js';
import { reportExtrapolation } from './report.js';

const ArmSchema = z.strictObject({
  name: z.string().min(1),
  attention: AttentionInputSchema,
  /** Take the weights of this arm instead of training: a RoPE scaling applied to a model trained without it. */
  of: z.string().min(1).optional(),
});

export const ExtrapolationConfigSchema = z.strictObject({
  study: z.literal('length-extrapolation'),
  ...common,
  ...textStudy,
  arms: z.array(ArmSchema).min(1),
});

export type ExtrapolationConfig = z.output<typeof ExtrapolationConfigSchema>;
export type ExtrapolationResult = Partial<TrainingResult> & TextEvaluation;

export const armId = (name: string, seed: number) => `${name}, seed ${seed}`;

export const extrapolationStudy: Study<ExtrapolationConfig, ExtrapolationResult, PreparedText> = {
  kind: 'length-extrapolation',
  schema: ExtrapolationConfigSchema as Study<ExtrapolationConfig>['schema'],
  arms: (config) => {
    checkNames(config);
    // All trained arms of a seed before the next seed: a report of half a study compares all arms.
    return config.seeds.flatMap((seed) => config.arms.map((arm) => armOf(config, arm, seed)));
  },
  after: (arm, config) => {
    const seed = arm.settings.seed as number;
    const { of } = config.arms.find(({ name }) => armId(name, seed) === arm.id)!;
    return of === undefined ? [] : [armId(of, seed)];
  },
  prepare: ({ text }, context) => prepareText(text, context),
  run: async (arm, config, context, text) => {
    const seed = arm.settings.seed as number;
    const { attention, of } = config.arms.find(({ name }) => armId(name, seed) === arm.id)!;
    return runArm(config, { attention, of, seed }, text, context);
  },
  report: reportExtrapolation,
};

function checkNames({ arms }: ExtrapolationConfig): void {
  for (const { name, of } of arms) {
    if (of === undefined) continue;
    const base = arms.find((arm) => arm.name === of);
    if (!base) throw new UserError(`Arm '${name}' is of '${of}', and there is no arm of that name.`);
    if (base.of) throw new UserError(`Arm '${name}' is of '${of}', which is itself of '${base.of}'; name that one.`);
    if (arms.indexOf(base) > arms.findIndex((arm) => arm.name === name)) {
      throw new UserError(`Arm '${name}' is of '${of}', which comes after it; move it behind that one.`);
    }
  }
}

function armOf(config: ExtrapolationConfig, arm: ExtrapolationConfig['arms'][number], seed: number): Arm {
  const { text, training, evaluation } = config;
  const { folder: _, ...what } = text;
  const base = config.arms.find(({ name }) => name === arm.of);
  const model = modelOf(config, arm.attention);
  parseConfig(model);
  const weights = base ? { trainedAs: modelOf(config, base.attention) } : {};
  return { id: armId(arm.name, seed), settings: { text: what, model, training, evaluation, seed, ...weights } };
}

function modelOf({ model, text, training }: ExtrapolationConfig, attention: unknown): LlamaConfigInput {
  const { contextLength } = training;
  return { ...defined(model), vocabSize: text.vocabSize, contextLength, attention } as LlamaConfigInput;
}

async function runArm(
  config: ExtrapolationConfig,
  { attention, of, seed }: { attention: unknown; of: string | undefined; seed: number },
  text: PreparedText,
  context: ArmContext,
): Promise<ExtrapolationResult | undefined> {
  const model = modelOf(config, attention);
  const trained = of
    ? { model: weightsOf(context.folderOf(armId(of, seed)), model), result: {} }
    : await trainOnText({ model, recipe: config.training, seed }, text, context);
  if (!trained) return undefined;
  try {
    const lengths = lengthsUpTo(config.training.contextLength, config.evaluation.times);
    const { tokens } = config.evaluation;
    const evaluation = await evaluateText(trained.model, text, { lengths, tokens }, context);
    return evaluation && { ...trained.result, ...evaluation };
  } finally {
    trained.model.dispose();
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
