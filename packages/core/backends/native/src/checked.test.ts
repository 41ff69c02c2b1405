import { describe, expect, it } from 'vitest';
import { checked, numbersOf } from './checked.js';

const signature = 'void sb_test(int64_t rows, void *x, int32_t window, float scale, void *y)';
const seen: unknown[][] = [];
const call = checked(signature, (...args: unknown[]) => void seen.push(args));

describe('numbers at the border to C', () => {
  it('are found in the signature', () => {
    expect(numbersOf(signature).map(({ index, name, type }) => [index, name, type])).toEqual([
      [0, 'rows', 'int64_t'],
      [2, 'window', 'int32_t'],
      [3, 'scale', 'float'],
    ]);
    expect(numbersOf('void sb_nothing()')).toEqual([]);
  });

  it('pass where they fit', () => {
    const args = [2 ** 53 - 1, null, -(2 ** 31), -3.4e38, null];
    call(...args);
    expect(seen).toEqual([args]);
  });

  it.each([
    [0, 2 ** 53, 'rows'],
    [0, 1.5, 'rows'],
    [0, undefined, 'rows'],
    [2, 2 ** 31, 'window'],
    [2, 2 ** 32 + 1, 'window'],
    [2, 0.5, 'window'],
    [2, Number.NaN, 'window'],
    [3, 3.5e38, 'scale'],
    [3, Number.NaN, 'scale'],
    [3, Number.NEGATIVE_INFINITY, 'scale'],
  ])('are refused where they do not: argument %i is %s', (index, value, name) => {
    const args: unknown[] = [1, null, 1, 1, null];
    args[index] = value;
    expect(() => call(...args)).toThrow(`sb_test: ${name} is ${value}, which `);
  });
});
