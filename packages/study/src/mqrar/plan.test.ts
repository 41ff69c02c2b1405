/** Several seeds and mixtures of training sequences: what is run, what is skipped, and what the report makes of it. */
import { describe, expect, it } from 'vitest';
import { type MqrarConfig, MqrarConfigSchema } from './config.js';
import { earlierThan, planned, whySkipped } from './plan.js';
import { reportMqrar } from './report.js';
import type { MqrarResult } from './run.js';

const config: MqrarConfig = MqrarConfigSchema.parse({
  ...{ study: 'mqrar', output: 'none', pairs: [4], learningRates: [0.1], seeds: [5, 7] },
  task: { sequenceLength: 20, variables: 20, values: 10 },
  recipes: [
    { fewestPairs: 1, learningRates: [0.001, 0.01] },
    { fewestPairs: 4, learningRates: [0.001, 0.01] },
  ],
  model: { hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 1 },
  training: { steps: 100, sequences: 2, warmupSteps: 1 },
  arms: [
    { name: 'stick-breaking', attention: 'stick-breaking' },
    { name: 'softmax+RoPE', attention: 'softmax+rope' },
    { name: 'ALiBi', attention: 'softmax+alibi', learningRates: [0.02] },
  ],
});
const result = (accuracy: number): MqrarResult => ({
  ...{ parameters: 1, accuracy, steps: 1, tokens: 1, checks: [{ step: 1, accuracy }], losses: [] },
});
const resultsOf = (shares: Record<string, number>) =>
  new Map(Object.entries(shares).map(([id, share]) => [id, result(share)]));
const few = (rate: string, seed: number) => `stick-breaking, 4 pairs, from 1, lr ${rate}, seed ${seed}`;
const many = (rate: string, seed: number) => `stick-breaking, 4 pairs, from 4, lr ${rate}, seed ${seed}`;

describe('MQRAR with seeds and mixtures', () => {
  it('gives every attention the study’s recipes, or learning rates of its own', () => {
    const ids = planned(config).map(({ id }) => id);
    expect(ids).toHaveLength(2 * (4 + 4 + 1));
    expect(ids.slice(0, 4)).toEqual([few('1e-3', 5), few('1e-2', 5), many('1e-3', 5), many('1e-2', 5)]);
    expect(ids[17]).toBe('ALiBi, 4 pairs, lr 2e-2, seed 7');
    expect(planned(config)[17]!.settings.seed).toBe(7);
  });

  it('tries each mixture, and of one the rates until one solves the task', () => {
    const results = resultsOf({ [few('1e-3', 5)]: 1 });
    expect(whySkipped(config, few('1e-2', 5), results)).toBe(`${few('1e-3', 5)} has solved the task`);
    expect(whySkipped(config, many('1e-3', 5), results)).toBeUndefined();
    expect(earlierThan(config, many('1e-2', 5))).toEqual([many('1e-3', 5)]);
  });

  it('trains other seeds with the rate that the first found best', () => {
    const results = resultsOf({ [few('1e-3', 5)]: 0.2, [few('1e-2', 5)]: 0.6 });
    expect(whySkipped(config, few('1e-3', 7), results)).toBe(`${few('1e-2', 5)} was the best`);
    expect(whySkipped(config, few('1e-2', 7), results)).toBeUndefined();
    expect(earlierThan(config, few('1e-2', 7))).toEqual([few('1e-3', 5), few('1e-2', 5)]);
  });

  it('reports the mean and the range of the seeds, and what each mixture gives', () => {
    const shares = { [few('1e-3', 5)]: 1, [few('1e-3', 7)]: 0.9, [many('1e-3', 5)]: 0.4, [many('1e-3', 7)]: 0.2 };
    const { blocks, findings, rows } = reportMqrar(
      config,
      resultsOf({ ...shares, 'softmax+RoPE, 4 pairs, from 4, lr 1e-2, seed 5': 0.995 }),
    );
    const tables = blocks.filter((block) => block.kind === 'table');
    expect(tables[0]!.rows[0]).toEqual(['stick-breaking', '95.0 % (90.0 % to 100.0 %)']);
    const matrix = blocks.find((block) => block.kind === 'matrix' && block.name === 'mixtures');
    expect(matrix).toMatchObject({
      rows: ['stick-breaking', 'softmax+RoPE'],
      columns: ['4 pairs, from 1', '4 pairs, from 4'],
      values: [0.95, expect.closeTo(0.3), Number.NaN, 0.995],
    });
    expect(tables.at(-1)!.rows).toEqual([
      ['stick-breaking', '95.0 % (90.0 % to 100.0 %)', '30.0 % (20.0 % to 40.0 %)'],
      ['softmax+RoPE', '–', '99.5 %'],
    ]);
    // A seed that has not solved the task counts.
    expect(findings[0]!.found).toMatch(/stick-breaking solves up to 0 pairs .*, softmax\+RoPE up to 4/);
    expect(rows.map(({ seed }) => seed)).toEqual([5, 5, 5, 7, 7]);
  });
});
