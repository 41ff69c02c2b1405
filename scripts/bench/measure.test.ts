import { afterEach, describe, expect, it, vi } from 'vitest';
import { takeTurns } from './measure.mjs';

afterEach(() => vi.restoreAllMocks());

describe('takeTurns', () => {
  it('gives each contender the median of its runs, the first of each turn not counted', async () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const contender = (times: number[]) => {
      let runs = 0;
      return {
        run: () => {
          now += times[runs++]!;
        },
      };
    };
    const found = await takeTurns({ a: contender([900, 7, 1, 900, 3, 5]), b: contender([1, 2, 2, 1, 2, 50]) }, 2, 2);
    expect(found).toEqual({ a: 4, b: 2 });
  });
});
