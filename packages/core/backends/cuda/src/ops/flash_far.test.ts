import { expect, it } from 'vitest';
import { FAR_CLASSES, TILE_ROWS } from '../kernel_interface.js';
import { FAR, FarRows } from './flash_far.js';

const sizes = (tokens: number, heads = 6, kvHeads = 2) => {
  const rowBlocks = Math.ceil(tokens / TILE_ROWS);
  return {
    ...{ queries: tokens, heads, kvHeads, dim: 64, rowBlocks, tiles: (rowBlocks * (rowBlocks + 1)) / 2 },
    stretches: 0x1000,
  };
};

it('lays out what a call needs without overlaps, zeros first', () => {
  const memory = 1 << 20;
  for (const one of [sizes(5000), sizes(16_384), sizes(4097, 3, 3)]) {
    const { queries, heads, kvHeads, dim, rowBlocks } = one;
    const far = new FarRows(one, FAR);
    const given = far.arguments(memory);
    const blocks = heads * rowBlocks;
    const spans = [
      { at: given.farCounts, bytes: 2 * 8 + 4 * 4 + 2 * 4 * FAR_CLASSES },
      { at: given.farTiles, bytes: 4 * kvHeads * rowBlocks },
      { at: given.nearStop, bytes: 4 * blocks },
      { at: given.farGroups, bytes: 8 * 4 * blocks },
      { at: given.farSlots, bytes: 2 * 4 * heads * queries },
      { at: given.farGroupLists, bytes: 4 * FAR_CLASSES * blocks },
      { at: given.farTileLists, bytes: 4 * FAR_CLASSES * kvHeads * rowBlocks },
      { at: given.farEnds, bytes: 8 * heads * queries },
      { at: given.state, bytes: 4 * heads * queries * dim },
      { at: given.carries, bytes: 8 * TILE_ROWS * given.farRoom },
    ].sort((a, b) => a.at - b.at);
    for (const [i, { at }] of spans.slice(1).entries())
      expect(at).toBeGreaterThanOrEqual(spans[i]!.at + spans[i]!.bytes);
    for (const { at } of spans) expect(at % 256).toBe(0);
    const end = spans[spans.length - 1]!;
    expect(end.at + end.bytes).toBeLessThanOrEqual(memory + far.bytes);
    // Counts, and how many groups see a tile, begin at zero; nothing else needs to.
    expect([memory + far.zeros.at, far.zeros.bytes]).toEqual([
      given.farCounts,
      given.farTiles + 4 * kvHeads * rowBlocks - given.farCounts,
    ]);
    expect(memory + far.zeros.at + far.zeros.bytes).toBeLessThanOrEqual(given.nearStop);
  }
});

it('tells the kernels how much there is', () => {
  const one = sizes(16_384);
  const given = new FarRows(one, { ...FAR, near: 3, share: 1 / 4, cost: 2 }).arguments(0);
  expect(given).toMatchObject({ stretches: 0x1000, walk: 3, farCost: 2 });
  expect(given.farRoom).toBe((one.tiles * one.heads) / 4);
});

it('takes no more than 512 MiB for what each pair of a group and a tile leaves', () => {
  const [long, longer] = [1_000_000, 2_000_000].map((tokens) => new FarRows(sizes(tokens), FAR).arguments(0).farRoom);
  expect(long! * 8 * TILE_ROWS).toBe(512 * 2 ** 20);
  expect(longer).toBe(long);
  expect(new FarRows({ ...sizes(64, 1, 1), tiles: 1 }, FAR).arguments(0).farRoom).toBe(1);
});

it('refuses more near tiles than a block has bits for, and none', () => {
  for (const near of [0, -1, 29, 2.5])
    expect(() => new FarRows(sizes(5000), { ...FAR, near })).toThrow(`${near} near tiles of a block; expected 1 to 28`);
  for (const near of [1, 28]) expect(new FarRows(sizes(5000), { ...FAR, near }).arguments(0).walk).toBe(near);
});
