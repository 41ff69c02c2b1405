import { describe, expect, it } from 'vitest';
import { f32, i32, i64 } from './launch.js';

describe('numbers that a kernel is given', () => {
  it('pass where they fit', () => {
    expect([i32(-(2 ** 31)), i64(2 ** 53 - 1), f32(3.4e38), f32(Number.NEGATIVE_INFINITY)]).toEqual([
      { i32: -(2 ** 31) },
      { i64: 2 ** 53 - 1 },
      { f32: 3.4e38 },
      { f32: Number.NEGATIVE_INFINITY },
    ]);
  });

  it.each([
    ['i32', i32, [2 ** 31, 2 ** 32 + 1, 0.5, Number.NaN]],
    ['i64', i64, [2 ** 53, 0.5, Number.NaN]],
    ['f32', f32, [3.5e38, 1e300]],
  ] as const)('are refused where they do not: %s', (_, make, values) => {
    for (const value of values) expect(() => make(value), String(value)).toThrow(`cuda: ${value} is `);
  });
});
