import { seededRandom } from '@stickbreaking/base';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { headTiles } from './tiles.js';

/** All weights of one head by equation 1, row by row. */
function directWeights(q: number[], k: number[], tokens: number, dim: number, scale: number, attendCurrent: boolean) {
  return Array.from({ length: tokens }, (_, j) => {
    const row = new Array<number>(tokens).fill(0);
    let left = 1;
    for (let i = attendCurrent ? j : j - 1; i >= 0; i--) {
      let z = 0;
      for (let d = 0; d < dim; d++) z += scale * q[j * dim + d]! * k[i * dim + d]!;
      row[i] = left / (1 + Math.exp(-z));
      left /= 1 + Math.exp(z);
    }
    return row;
  });
}

it('skips exactly the tiles behind which every query of the block has exhausted its stick', () => {
  const cases = fc.record({
    tokens: fc.integer({ min: 1, max: 50 }),
    size: fc.double({ min: 0.1, max: 8, noNaN: true }),
    attendCurrent: fc.boolean(),
    seed: fc.integer({ min: 1, max: 2 ** 30 }),
  });
  fc.assert(
    fc.property(cases, ({ tokens, size, attendCurrent, seed }) => {
      const [dim, tile, scale, thresholds] = [3, 4, 0.7, [0.1, 1e-3]];
      const { uniform } = seededRandom(seed);
      const random = () => 2 * uniform() - 1;
      const q = Array.from({ length: tokens * dim }, () => size * random());
      const k = Array.from({ length: tokens * dim }, () => size * random());
      const found = headTiles(q, k, 0, { tokens, heads: 1, kvHeads: 1, dim, scale, attendCurrent, tile, thresholds });
      const weights = directWeights(q, k, tokens, dim, scale, attendCurrent);
      const skipped = thresholds.map(() => 0);
      let tiles = 0;
      for (let begin = 0; begin < tokens; begin += tile) {
        const block = weights.slice(begin, begin + tile);
        for (let t = Math.floor(begin / tile); t >= 0; t--) {
          tiles++;
          // What a query has left behind the tiles nearer than t: one minus the weights from there on.
          const left = block.map((row) => 1 - row.slice((t + 1) * tile).reduce((a, b) => a + b, 0));
          if (t === Math.floor(begin / tile)) continue;
          for (const [n, threshold] of thresholds.entries()) if (Math.max(...left) <= threshold) skipped[n]!++;
        }
      }
      expect(found.tiles).toBe(tiles);
      expect(found.skipped).toEqual(skipped);
    }),
  );
});

it('adds weights up by distance, with grouped heads, to what was broken off', () => {
  const options = { tokens: 40, heads: 4, kvHeads: 2, dim: 2, scale: 1, attendCurrent: false, tile: 8 };
  const q = Array.from({ length: 40 * 4 * 2 }, (_, i) => Math.sin(i));
  const k = Array.from({ length: 40 * 2 * 2 }, (_, i) => Math.cos(1.7 * i));
  const { weightByDistance, remainder } = headTiles(q, k, 3, { ...options, thresholds: [0] });
  const own = (x: number[], heads: number, head: number) =>
    Array.from({ length: 40 }, (_, i) => x.slice((i * heads + head) * 2, (i * heads + head + 1) * 2)).flat();
  const weights = directWeights(own(q, 4, 3), own(k, 2, 1), 40, 2, 1, false);
  const expected: number[] = [];
  for (const [j, row] of weights.entries()) {
    for (const [i, weight] of row.slice(0, j).entries()) {
      const bucket = Math.floor(Math.log2(j - i));
      expected[bucket] = (expected[bucket] ?? 0) + weight;
    }
  }
  for (const [bucket, weight] of expected.entries()) expect(weightByDistance[bucket]).toBeCloseTo(weight, 9);
  const total = expected.reduce((a, b) => a + b, 0);
  expect(remainder).toBeCloseTo(1 - total / 40, 9);
});
