import { expect, it } from 'vitest';
import { logTicks, placeLabels, powerOfTwoTicks } from './pictures.js';

it('marks both ends of a logarithmic axis, whatever lies between', () => {
  expect(logTicks(31.2, 410)).toEqual([20, 50, 100, 200, 500]);
  expect(logTicks(2.1, 9.5)).toEqual([2, 3, 5, 7, 10]);
  expect(logTicks(0.03, 3)).toEqual([0.03, 0.1, 0.3, 1, 3]);
  expect(logTicks(17.25, 17.3)).toEqual([17.24, 17.26, 17.28, 17.3]);
  expect(logTicks(5, 5)).toEqual([4.5, 4.6, 4.7, 4.8, 4.9, 5, 5.1, 5.2, 5.3, 5.4, 5.5]);
  for (const [low, high] of [
    [1e-12, 1e20],
    [3, 3.0001],
    [0.99, 1.01],
    [1, 10],
    [7e-5, 8e-5],
  ] as const) {
    const ticks = logTicks(low, high, 6);
    expect(ticks.length).toBeGreaterThanOrEqual(2);
    expect(ticks.length).toBeLessThanOrEqual(6);
    expect(ticks[0]).toBeLessThanOrEqual(low * 1.000001);
    expect(ticks.at(-1)).toBeGreaterThanOrEqual(high);
    expect([...ticks].sort((a, b) => a - b)).toEqual(ticks);
  }
});

it('puts ticks at powers of two and at both ends, as many as there is room for', () => {
  expect(powerOfTwoTicks(128, 2048)).toEqual([128, 256, 512, 1024, 2048]);
  expect(powerOfTwoTicks(100, 3000)).toEqual([100, 256, 512, 1024, 3000]);
  expect(powerOfTwoTicks(1, 65536, 9)).toEqual([1, 4, 16, 64, 256, 1024, 4096, 16384, 65536]);
  expect(powerOfTwoTicks(512, 512)).toEqual([512]);
});

it('moves labels apart in their order and keeps them inside', () => {
  expect(placeLabels([50, 52, 150], 20, 0, 200)).toEqual([41, 61, 150]);
  expect(placeLabels([50, 50, 50], 20, 0, 200)).toEqual([30, 50, 70]);
  expect(placeLabels([10, 12, 100], 20, 0, 200)).toEqual([10, 30, 100]);
  expect(placeLabels([195, 190, 5], 20, 0, 200)).toEqual([190, 170, 10]);
});
