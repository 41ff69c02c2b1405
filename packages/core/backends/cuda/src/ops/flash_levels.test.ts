import { expect, it } from 'vitest';
import { TILE_ROWS, UNIT_GROUPS } from '../kernel_interface.js';
import { FlashLevels, LEVELS } from './flash_levels.js';

const sizes = (longest: number, documents = 1) => ({
  queries: longest * documents,
  heads: 3,
  dim: 64,
  rowBlocks: Math.ceil(longest / TILE_ROWS) * documents,
  longest,
  stretches: { address: 0x1000, count: Math.ceil(longest / 1024) * documents },
  farBlocks: 20,
});

it('goes over every tile of the longest document', () => {
  for (const longest of [300, 4097, 16_384, 65_536, 1_000_000])
    for (const settings of [
      LEVELS,
      { ...LEVELS, walks: [1], partTiles: 2 },
      { ...LEVELS, walks: [40, 300], partTiles: 1 },
    ]) {
      const levels = new FlashLevels(sizes(longest), settings);
      const given = Array.from({ length: levels.count }, (_, level) => levels.arguments(0, level));
      expect(given.map(({ walk }) => walk).slice(0, -1)).toEqual(settings.walks);
      const last = given[given.length - 1]!;
      const rest = Math.ceil(longest / TILE_ROWS) - settings.walks.reduce((sum, walk) => sum + walk, 0);
      expect(last.walk).toBe(Math.max(1, rest));
      expect(given.every(({ partTiles }) => partTiles === settings.partTiles)).toBe(true);
      expect([given[0]!.count, last.nextCount]).toEqual([0, 0]);
    }
});

it('lays out what a call needs without overlaps, zeros first', () => {
  const one = sizes(5000, 2);
  const levels = new FlashLevels(one, { from: 1, walks: [4, 8, 16], partTiles: 10 });
  const memory = 1 << 20;
  const given = Array.from({ length: levels.count }, (_, level) => levels.arguments(memory, level));
  const pairs = one.stretches.count * one.heads;
  const blocks = one.rowBlocks * one.heads;
  const last = given[given.length - 1]!;
  const spans = [
    ...given.slice(1).flatMap(({ count, unit }) => [
      { at: count, bytes: 4 * pairs },
      { at: unit, bytes: 4 },
    ]),
    ...given.slice(1).map(({ partsDone }) => ({ at: partsDone, bytes: 4 * UNIT_GROUPS * one.farBlocks })),
    ...given.map(({ kept, level }) => ({
      at: kept,
      bytes: 4 * (blocks + (blocks & 1) + 2 * blocks + (level > 0 ? 2 * one.queries * one.heads : 0)),
    })),
    { at: last.state, bytes: 4 * one.queries * one.heads * one.dim },
    // Two parts of each block, each of a unit's groups.
    { at: last.parts, bytes: 2 * one.farBlocks * 4 * UNIT_GROUPS * TILE_ROWS * (one.dim + 3) },
  ].sort((a, b) => a.at - b.at);
  for (const [i, { at }] of spans.slice(1).entries()) expect(at).toBeGreaterThanOrEqual(spans[i]!.at + spans[i]!.bytes);
  const end = spans[spans.length - 1]!;
  expect(end.at + end.bytes).toBeLessThanOrEqual(memory + levels.bytes);
  expect([last.partsDone + 4 * UNIT_GROUPS * one.farBlocks, memory + levels.zeros.at]).toEqual([
    memory + levels.zeros.at + levels.zeros.bytes,
    given[1]!.count,
  ]);
  for (const [i, level] of given.slice(1).entries()) {
    // Each level's rows are counted by the one before, and taken from what that one kept.
    expect([level.count, level.nearer]).toEqual([given[i]!.nextCount, given[i]!.kept]);
    // The counts of a level lie behind those of the one before: flash_levels.cuh relies on it.
    if (i > 0) expect(level.count).toBe(given[i]!.count + 4 * pairs);
  }
});

it('refuses levels that go over no tile', () => {
  for (const settings of [{ walks: [] }, { walks: [8, 0] }, { walks: [8], partTiles: 0 }])
    expect(() => new FlashLevels(sizes(5000), { ...LEVELS, ...settings })).toThrow(/expected at least one level/);
});
