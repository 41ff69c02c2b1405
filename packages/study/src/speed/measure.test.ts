import { selectBackend } from '@stickbreaking/core';
import { Optimizer } from '@stickbreaking/train';
import { afterEach, expect, it, vi } from 'vitest';
import { measure } from './measure.js';

afterEach(() => vi.restoreAllMocks());

it.each([
  [[1000, 1000, 40, 10, 90, 20, 30], 30, [90, 10]],
  [[1000, 1000, 40, 10, 90, 20], 30, [90, 10]],
])(
  'reports the median step, and none of the steps that warm up: %j',
  async (milliseconds, middle, [slowest, fastest]) => {
    await selectBackend('cpu');
    let [step, now] = [0, 0];
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    vi.spyOn(Optimizer.prototype, 'update').mockImplementation(() => {
      now += milliseconds[step++]!;
    });
    const steps = milliseconds.length - 2;
    const { tokensPerSecond, slowestToFastest, tokens } = await measure({
      backend: 'cpu',
      model: { vocabSize: 8, hiddenSize: 4, intermediateSize: 4, numLayers: 1, numHeads: 1 },
      ...{ length: 3, tokens: 6, warmupSteps: 2, steps },
    });
    expect(step).toBe(milliseconds.length);
    expect(tokensPerSecond).toBeCloseTo(6000 / middle, 6);
    expect(slowestToFastest).toEqual([6000 / slowest!, 6000 / fastest!]);
    expect(tokens).toBe(6 * steps);
  },
);
