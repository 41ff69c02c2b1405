import { describe, expect, it } from 'vitest';
import { paddedRows, reachedSizes } from './rows.js';

describe('rows in memory', () => {
  it.each([
    [
      'rows and columns up to multiples of eight',
      [2730, 1022],
      { columns: 1022, width: 1024, stride: 1024, count: 2736 },
    ],
    ['rows alone', [2730, 1024], { columns: 1024, width: 1024, stride: 1024, count: 2736 }],
    ['nothing where both are multiples', [4096, 1536], undefined],
    ['nothing in a small matrix', [7, 1021], undefined],
    ['nothing in another shape', [2730], undefined],
    ['nothing in another shape', [3, 33, 33], undefined],
  ])('%s: %j', (_, shape, rows) => {
    expect(paddedRows(shape)).toEqual(rows);
  });

  const plain = (rows: number, columns: number) => ({ rows, columns });
  it.each([
    // x [N, 1024] · Wᵀ, W [2730, 1024]: the result gets the padded weight's rows as columns.
    [
      'a padded weight',
      { m: 67, n: 2730, k: 1024, transposeA: false, transposeB: true },
      plain(67, 1024),
      plain(2736, 1024),
      undefined,
      { m: 67, n: 2736, k: 1024 },
    ],
    // act [N, 2730] · Wᵀ, W [1024, 2730].
    [
      'both reach over the inner size',
      { m: 67, n: 1024, k: 2730, transposeA: false, transposeB: true },
      plain(67, 2736),
      plain(1024, 2736),
      undefined,
      { m: 67, n: 1024, k: 2736 },
    ],
    [
      'one does not',
      { m: 67, n: 1024, k: 2730, transposeA: false, transposeB: true },
      plain(67, 2730),
      plain(1024, 2736),
      undefined,
      { m: 67, n: 1024, k: 2730 },
    ],
    // dYᵀ·x: the gradient of W [2730, 1024], over N tokens, which lie along no row.
    [
      "a weight's gradient",
      { m: 2730, n: 1024, k: 67, transposeA: true, transposeB: false },
      plain(67, 2736),
      plain(67, 1024),
      undefined,
      { m: 2736, n: 1024, k: 67 },
    ],
    [
      'the same, added to a sum without padding',
      { m: 2730, n: 1024, k: 67, transposeA: true, transposeB: false },
      plain(67, 2736),
      plain(67, 1024),
      plain(2730, 1024),
      { m: 2730, n: 1024, k: 67 },
    ],
  ])('%s', (_, sizes, a, b, c, reached) => {
    expect(reachedSizes(sizes, a, b, c)).toEqual(reached);
  });
});
