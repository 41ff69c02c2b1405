/** The MQRAR study: how many key-value pairs each attention can keep up to date (section 5.1, figures 3 and 4). */
import { UserError } from '@stickbreaking/core';
import { type LlamaConfigInput, parseConfig } from '@stickbreaking/model';
import { type AttentionInput, defined, type ModelSizes } from '../config.js';
import type { Study } from '../study.js';
import { shownRate } from '../text/rates.js';
import { type MqrarConfig, MqrarConfigSchema } from './config.js';
import { reportMqrar } from './report.js';
import { type MqrarResult, type MqrarSettings, runMqrar } from './run.js';
import { checkTask, exampleAlphabet, type MqrarTask } from './task.js';

export const mqrarStudy: Study<MqrarConfig, MqrarResult> = {
  kind: 'mqrar',
  schema: MqrarConfigSchema as Study<MqrarConfig>['schema'],
  arms: (config) =>
    [...sweep(config), ...examples(config)].map(({ id, settings }) => ({ id, settings: { ...settings } })),
  needless: (arm, results, config) => {
    if (!config.stopSweepWhenSolved) return undefined;
    const group = groupOf(arm.id);
    const { solvedAt } = (arm.settings as unknown as MqrarSettings).training;
    const solver = [...results].find(
      ([id, { accuracy }]) => id !== arm.id && groupOf(id) === group && accuracy >= solvedAt,
    );
    return solver && `${solver[0]} has solved the task`;
  },
  // The learning rates of a task one after the other: once one has solved it, the others are needless.
  after: ({ id }, { stopSweepWhenSolved }, arms) => {
    const earlier = arms.slice(
      0,
      arms.findIndex((arm) => arm.id === id),
    );
    return stopSweepWhenSolved ? earlier.map((arm) => arm.id).filter((other) => groupOf(other) === groupOf(id)) : [];
  },
  prepare: async () => {},
  run: (arm, _config, context) => runMqrar(arm.settings as unknown as MqrarSettings, context),
  report: reportMqrar,
};

interface MqrarArm {
  id: string;
  settings: MqrarSettings;
}

/** Runs that differ in their learning rate alone. */
const groupOf = (id: string) => id.slice(0, id.lastIndexOf(', lr '));

export const sweepId = (name: string, pairs: number, rate: number) => `${name}, ${pairs} pairs, lr ${shownRate(rate)}`;
export const exampleId = (name: string, rate: number) => `figure 4, ${name}, lr ${shownRate(rate)}`;

function sweep(config: MqrarConfig): MqrarArm[] {
  return config.arms.flatMap(({ name, attention, pairs = config.pairs, learningRates = config.learningRates }) =>
    pairs.flatMap((count) =>
      learningRates.map((learningRate) => {
        const task = { ...config.task, pairs: count };
        const { seed, training } = config;
        const model = modelOf(config.model, task, attention);
        return {
          id: sweepId(name, count, learningRate),
          settings: { task, model, training, learningRate, seed, drawn: false },
        };
      }),
    ),
  );
}

function examples(config: MqrarConfig): MqrarArm[] {
  const { example, seed } = config;
  if (!example) return [];
  const unknown = example.arms.find((name) => !config.arms.some((arm) => arm.name === name));
  if (unknown !== undefined) throw new UserError(`example.arms names '${unknown}', and there is no arm of that name.`);
  return config.arms
    .filter(({ name }) => example.arms.includes(name))
    .flatMap(({ name, attention }) =>
      example.learningRates.map((learningRate) => {
        const task = { ...exampleAlphabet, pairs: example.pairs, sequenceLength: example.sequenceLength };
        const model = modelOf(example.model, task, attention);
        return {
          id: exampleId(name, learningRate),
          settings: { task, model, training: example.training, learningRate, seed, drawn: true },
        };
      }),
    );
}

function modelOf(sizes: ModelSizes, task: MqrarTask, attention: AttentionInput): LlamaConfigInput {
  checkTask(task);
  const model = {
    ...defined(sizes),
    vocabSize: task.variables + task.values,
    contextLength: task.sequenceLength,
    ...(attention === undefined ? {} : { attention }),
  } as LlamaConfigInput;
  parseConfig(model);
  return model;
}
