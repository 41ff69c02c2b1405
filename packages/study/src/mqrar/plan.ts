/** What is trained: every attention at every number of pairs with every recipe until one solves the task; and figure 4's models. */
import { UserError } from '@stickbreaking/base';
import type { LlamaConfigInput } from '@stickbreaking/model';
import { type AttentionInput, defined, type ModelSizes, shownRate } from '../config.js';
import type { MqrarConfig, MqrarTraining } from './config.js';
import type { MqrarResult, MqrarSettings } from './run.js';
import { exampleAlphabet, type MqrarTask } from './task.js';

export interface Planned {
  id: string;
  /** Id of the arm that it is of. */
  arm: string;
  pairs: number;
  learningRate: number;
  training: MqrarTraining;
  settings: MqrarSettings;
}

type Results = ReadonlyMap<string, MqrarResult>;
type SweptArm = MqrarConfig['arms'][number];

export const planned = (config: MqrarConfig): Planned[] => [...sweep(config), ...examples(config)];

/** Figure 3: recipes of an arm at a number of pairs stand together, in the order in which they are tried. */
export function sweep(config: MqrarConfig): Planned[] {
  const { seed } = config;
  return config.arms.flatMap((arm) =>
    (arm.pairs ?? config.pairs).flatMap((pairs) =>
      recipesOf(config, arm).flatMap(({ training, learningRates }) =>
        learningRates.map((learningRate) => {
          const task = { ...config.task, pairs };
          const model = modelOf(config.model, task, arm.attention);
          const mixture = hasOwnMixture(config, training) ? `, from ${fewestPairs(training, pairs)}` : '';
          return {
            id: `${arm.id}, ${pairs} pairs${mixture}, lr ${shownRate(learningRate)}`,
            ...{ arm: arm.id, pairs, learningRate, training },
            settings: { task, model, training, learningRate, seed, drawn: false },
          };
        }),
      ),
    ),
  );
}

function recipesOf({ training, learningRates }: MqrarConfig, arm: SweptArm) {
  if (!arm.recipes) return [{ training, learningRates: arm.learningRates ?? learningRates }];
  return arm.recipes.map(({ fewestPairs, learningRates }) => ({
    training: { ...training, fewestPairs },
    learningRates,
  }));
}

/** Whether it trains on other sequences than the study's models do in general. */
const hasOwnMixture = (config: MqrarConfig, training: MqrarTraining) =>
  training.fewestPairs !== config.training.fewestPairs;

export const fewestPairs = (training: MqrarTraining, pairs: number) => Math.min(training.fewestPairs ?? pairs, pairs);

/** Figure 4's models. @throws UserError where they are of an arm that is not there */
export function examples(config: MqrarConfig): Planned[] {
  const { example, seed } = config;
  if (!example) return [];
  const unknown = example.arms.find((id) => !config.arms.some((arm) => arm.id === id));
  if (unknown !== undefined) throw new UserError(`example.arms names '${unknown}', and no arm has that id.`);
  const { pairs, training, sequenceLength } = example;
  return config.arms
    .filter(({ id }) => example.arms.includes(id))
    .flatMap(({ id: arm, attention }) =>
      example.learningRates.map((learningRate) => {
        const task = { ...exampleAlphabet, pairs, sequenceLength };
        const model = modelOf(example.model, task, attention);
        return {
          id: `figure 4, ${arm}, lr ${shownRate(learningRate)}`,
          ...{ arm, pairs, learningRate, training },
          settings: { task, model, training, learningRate, seed, drawn: true },
        };
      }),
    );
}

export interface Tried extends Planned {
  result: MqrarResult;
}

/** Those that were run. */
export const triedOf = (runs: readonly Planned[], results: Results): Tried[] =>
  runs.flatMap((run) => {
    const result = results.get(run.id);
    return result ? [{ ...run, result }] : [];
  });

/** Of the runs of one task the one that answers best. */
export const bestOf = (runs: readonly Tried[]): Tried | undefined =>
  [...runs].sort((a, b) => b.result.accuracy - a.result.accuracy)[0];

/** Runs of one model and task: they differ in how it was trained. */
export function rivals(config: MqrarConfig, id: string): Planned[] {
  const all = planned(config);
  const one = all.find((run) => run.id === id)!;
  const { drawn } = one.settings;
  return all.filter(({ arm, pairs, settings }) => arm === one.arm && pairs === one.pairs && settings.drawn === drawn);
}

function modelOf(sizes: ModelSizes, task: MqrarTask, attention: AttentionInput): LlamaConfigInput {
  return {
    ...defined(sizes),
    vocabSize: task.variables + task.values,
    contextLength: task.sequenceLength,
    ...(attention === undefined ? {} : { attention }),
  } as LlamaConfigInput;
}
