import { describe, expect, it } from 'vitest';
import { rangeWithoutOutliers, sampleOf, smooth, thinOut, valueAt, within } from './series.js';

describe('smooth', () => {
  it('is the weighted mean of the values so far', () => {
    const [a, b, c] = smooth([1, 3, 5], 0.5);
    expect([a, b]).toEqual([1, (0.5 * 1 + 3) / 1.5]);
    expect(c).toBeCloseTo((0.25 * 1 + 0.5 * 3 + 5) / 1.75, 12);
  });

  it('leaves constants and what is not finite as they are', () => {
    expect(smooth([4, null, 4, 4], 0.9)).toEqual([4, null, expect.closeTo(4, 12), expect.closeTo(4, 12)]);
    expect(smooth([1, null, 7], 0)).toEqual([1, null, 7]);
  });
});

it('within keeps one point more on either side', () => {
  const line = { x: [1, 2, 3, 4, 5, 6], y: [1, 2, 3, 4, 5, 6] };
  expect(within(line, 2.5, 4).x).toEqual([2, 3, 4, 5]);
  expect(within(line, 0, 9)).toEqual(line);
  expect(within(line, 7, 9).x).toEqual([6]);
});

describe('thinOut', () => {
  it('keeps ends and extremes', () => {
    const n = 100_000;
    const x = Array.from({ length: n }, (_, i) => i);
    const y = x.map((i) => (i === 51_234 ? 1000 : i === 70_001 ? -1000 : Math.sin(i)));
    const thin = thinOut({ x, y }, 2000);
    expect(thin.x.length).toBeLessThanOrEqual(2004);
    expect(thin.x).toEqual(expect.arrayContaining([0, 51_234, 70_001, n - 1]));
    expect(thin.x).toEqual(thin.x.toSorted((a, b) => a - b));
    expect(thin.y).toEqual(thin.x.map((i) => y[i]));
  });

  it('leaves what has few points', () => {
    const line = { x: [1, 2], y: [null, 3] };
    expect(thinOut(line, 2)).toEqual(line);
  });
});

it('sampleOf keeps points at equal distances, and the last', () => {
  const x = Array.from({ length: 1001 }, (_, i) => i);
  expect(sampleOf({ x, y: x }, 100)).toEqual({ x: x.filter((i) => (1000 - i) % 11 === 0), y: expect.anything() });
  expect(sampleOf({ x, y: x }, 100).y.at(-1)).toBe(1000);
  expect(sampleOf({ x: [1, 2], y: [3, null] }, 100)).toEqual({ x: [1, 2], y: [3, null] });
});

it('rangeWithoutOutliers holds all but the outermost twentieths', () => {
  const values = Array.from({ length: 1001 }, (_, i) => i / 10);
  expect(rangeWithoutOutliers([...values, 1e9, null])).toEqual([5, 95.1]);
  expect(rangeWithoutOutliers([null])).toBeUndefined();
});

it('valueAt is the last value up to there', () => {
  const line = { x: [10, 20, 30], y: [1, null, 3] };
  expect([5, 10, 25, 30, 99].map((at) => valueAt(line, at))).toEqual([1, 1, 1, 3, 3]);
  expect(valueAt({ x: [], y: [] }, 1)).toBeUndefined();
});
