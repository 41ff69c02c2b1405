import type { MetricsLine } from '@stickbreaking/train';
import { expect, it } from 'vitest';
import { tablesOf } from './metrics_tables.js';

it('puts lines of a kind into a table, with what is inside others under both names', () => {
  const score = (value: number) => ({ task: 'arc_easy', metric: 'acc', filter: 'none', value, standardError: 0.1 });
  const lines = [
    { step: 1, tokens: 8, loss: 2 },
    { step: 2, tokens: 16, loss: null, skipped: true },
    { step: 2, tokens: 16, validationLoss: 3, attention: { distance: [1, 2], remainder: [0.5, 0] } },
    { step: 2, tokens: 16, scores: [score(0.25), { ...score(0.5), filter: 'strict' }] },
    { step: 4, tokens: 32, scores: [score(0.75)] },
  ] as unknown as MetricsLine[];
  expect(tablesOf(lines, [1, 2, 2, 2, 4])).toEqual({
    steps: { step: [1, 2], tokens: [8, 16], seconds: [1, 2], values: { loss: [2, null] } },
    validation: {
      ...{ step: [2], tokens: [16], seconds: [2] },
      values: {
        ...{ validationLoss: [3], 'attention.distance.0': [1], 'attention.distance.1': [2] },
        ...{ 'attention.remainder.0': [0.5], 'attention.remainder.1': [0] },
      },
    },
    evaluation: {
      ...{ step: [2, 4], tokens: [16, 32], seconds: [2, 4] },
      values: { 'arc_easy, acc': [0.25, 0.75], 'arc_easy, acc (strict)': [0.5, null] },
    },
  });
});

it('keeps apart what is called like something that every object has', () => {
  const scores = ['constructor', '__proto__'].map((metric) => ({ task: metric, metric, filter: 'none', value: 1 }));
  const lines = [
    { step: 1, tokens: 8, loss: 2, constructor: 3 },
    { step: 1, tokens: 8, scores },
  ] as unknown as MetricsLine[];
  const { steps, evaluation } = tablesOf(lines, [1, 1]);
  expect(JSON.parse(JSON.stringify(steps!.values))).toEqual({ loss: [2], constructor: [3] });
  expect(Object.values(evaluation!.values)).toEqual([[1], [1]]);
});
