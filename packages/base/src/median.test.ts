import { expect, it } from 'vitest';
import { median } from './median.js';

it.each([
  [[5], 5],
  [[9, 1, 5], 5],
  [[100, 2, 1, 3, 10], 3],
  [[4, 1, 2, 3], 2.5],
  [[10, 9], 9.5],
  [[], Number.NaN],
])('the median of %j is %d', (values, expected) => {
  const given = [...values];
  expect(median(values)).toBe(expected);
  expect(values).toEqual(given);
});
