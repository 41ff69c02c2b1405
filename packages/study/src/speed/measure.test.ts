import { selectBackend } from '@stickbreaking/core';
import { Optimizer } from '@stickbreaking/train';
import { afterEach, expect, it, vi } from 'vitest';
import { measure } from './measure.js';

afterEach(() => vi.restoreAllMocks());

it('reports the median step, and none of the steps that warm up', async () => {
  await selectBackend('cpu');
  const milliseconds = [1000, 1000, 40, 10, 90, 20, 30];
  let [step, now] = [0, 0];
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  vi.spyOn(Optimizer.prototype, 'update').mockImplementation(() => {
    now += milliseconds[step++]!;
  });
  const { tokensPerSecond, tokens } = await measure({
    backend: 'cpu',
    model: { vocabSize: 8, hiddenSize: 4, intermediateSize: 4, numLayers: 1, numHeads: 1 },
    ...{ length: 3, tokens: 6, warmupSteps: 2, steps: 5 },
  });
  expect(step).toBe(milliseconds.length);
  expect(tokensPerSecond).toBeCloseTo(6 / 0.03, 6);
  expect(tokens).toBe(30);
});
