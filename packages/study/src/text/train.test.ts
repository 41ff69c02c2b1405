import type { StepMetrics } from '@stickbreaking/train';
import { expect, it } from 'vitest';
import { speedOf } from './train.js';

it.each([
  [[], undefined],
  [[100], 100],
  [[1, 900, 1000, 1100, 50], 900],
  [[1, 1000, 900, 1100], 950],
])('a training speed is the median of those of the steps: %j', (speeds, expected) => {
  const steps = speeds.map((tokensPerSecond, i) => ({ step: i + 1, loss: 1, tokensPerSecond }) as StepMetrics);
  const validation = { step: 2, tokens: 3, validationLoss: 1 };
  expect(speedOf([...steps, validation]).trainingSpeed).toBe(expected);
});
