/**
 * What is trained: every attention at every number of pairs with every mixture of training sequences, its learning rates until
 * one solves the task; and figure 4's models.
 */
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
  seed: number;
  training: MqrarTraining;
  settings: MqrarSettings;
}

type Results = ReadonlyMap<string, MqrarResult>;
type SweptArm = MqrarConfig['arms'][number];

export const planned = (config: MqrarConfig): Planned[] => [...sweep(config), ...examples(config)];

/** Figure 3: all of a seed before the next; recipes of an arm at a number of pairs stand together, in the order given. */
export function sweep(config: MqrarConfig): Planned[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) =>
      (arm.pairs ?? config.pairs).flatMap((pairs) =>
        recipesOf(config, arm).flatMap(({ training, learningRates }) =>
          learningRates.map((learningRate) => {
            const task = { ...config.task, pairs };
            const model = modelOf(config.model, task, arm.attention);
            const mixture = hasOwnMixture(config, training) ? `, from ${fewestPairs(training, pairs)}` : '';
            return {
              id: `${arm.id}, ${pairs} pairs${mixture}, lr ${shownRate(learningRate)}${seedLabel(config, seed)}`,
              ...{ arm: arm.id, pairs, learningRate, seed, training },
              settings: { task, model, training, learningRate, seed, drawn: false },
            };
          }),
        ),
      ),
    ),
  );
}

const seedLabel = ({ seeds }: MqrarConfig, seed: number) => (seeds.length > 1 ? `, seed ${seed}` : '');

export function recipesOf(config: MqrarConfig, arm: SweptArm) {
  const { training } = config;
  const recipes = arm.recipes ?? (arm.learningRates ? undefined : config.recipes);
  if (!recipes) return [{ training, learningRates: arm.learningRates ?? config.learningRates }];
  return recipes.map(({ fewestPairs, learningRates }) => ({ training: { ...training, fewestPairs }, learningRates }));
}

/** Whether it trains on other sequences than the study's models do in general. */
const hasOwnMixture = (config: MqrarConfig, training: MqrarTraining) =>
  training.fewestPairs !== config.training.fewestPairs;

export const fewestPairs = (training: MqrarTraining, pairs: number) => Math.min(training.fewestPairs ?? pairs, pairs);

/** Figure 4's models. @throws UserError where they are of an arm that is not there */
export function examples(config: MqrarConfig): Planned[] {
  const { example } = config;
  const seed = config.seeds[0]!;
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
          ...{ arm, pairs, learningRate, seed, training },
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

/** Runs of one model on one mixture of one task from one seed: they differ in their learning rates. */
function rivals(config: MqrarConfig, one: Planned, seed = one.seed): Planned[] {
  const alike = ({ arm, pairs, training, settings }: Planned) =>
    arm === one.arm &&
    pairs === one.pairs &&
    training.fewestPairs === one.training.fewestPairs &&
    settings.drawn === one.settings.drawn;
  return planned(config).filter((each) => each.seed === seed && alike(each));
}

/** Why it need not be run, given what has been; undefined if it must be. */
export function whySkipped(config: MqrarConfig, id: string, results: Results): string | undefined {
  const one = planned(config).find((run) => run.id === id)!;
  const first = config.seeds[0]!;
  if (one.seed !== first) {
    const best = bestOf(triedOf(rivals(config, one, first), results));
    return best && best.learningRate !== one.learningRate ? `${best.id} was the best` : undefined;
  }
  if (!config.stopSweepWhenSolved) return undefined;
  const solver = triedOf(rivals(config, one), results).find(
    (other) => other.id !== id && other.result.accuracy >= other.training.solvedAt,
  );
  return solver && `${solver.id} has solved the task`;
}

/** Ids of what must be done, or skipped, before it. */
export function earlierThan(config: MqrarConfig, id: string): string[] {
  const one = planned(config).find((run) => run.id === id)!;
  const first = config.seeds[0]!;
  if (one.seed !== first) return rivals(config, one, first).map((run) => run.id);
  if (!config.stopSweepWhenSolved) return [];
  const ids = rivals(config, one).map((run) => run.id);
  return ids.slice(0, ids.indexOf(id));
}

function modelOf(sizes: ModelSizes, task: MqrarTask, attention: AttentionInput): LlamaConfigInput {
  return {
    ...defined(sizes),
    vocabSize: task.variables + task.values,
    contextLength: task.sequenceLength,
    ...(attention === undefined ? {} : { attention }),
  } as LlamaConfigInput;
}
