import { expect, it } from 'vitest';
import { registerCountingCuda } from '../counting_device.js';
import { Gpus } from '../parallel/gpus.js';
import type { Communicator } from '../parallel/nccl.js';
import { blocksFor, groupedBlocking, TILES_BESIDE_COLLECTIVES } from './grouped.js';

const H100 = 132;

/** How often each tile is made by the clusters of a launch, as GroupedTiles of grouped.cuh deals them out. */
function made(tiles: number, clusters: number): number[] {
  const times = Array<number>(tiles).fill(0);
  for (let first = 0; first < clusters; first++) for (let i = first; i < tiles; i += clusters) times[i]!++;
  return times;
}

it('lasts as many blocks as the GPU has room for, or fewer where there are fewer tiles', () => {
  expect(blocksFor(1000, groupedBlocking(true), H100)).toBe(132);
  expect(blocksFor(1000, groupedBlocking(false), H100)).toBe(264);
  expect(blocksFor(5, groupedBlocking(true), H100)).toBe(10);
});

it('gives a block at most so many tiles, none twice, and leaves no multiprocessor without one', () => {
  for (const hopper of [true, false])
    for (const most of [undefined, 1, 2, 3])
      for (const tiles of [1, 2, 65, 66, 67, 131, 132, 133, 500, 1536]) {
        const blocking = groupedBlocking(hopper);
        const clusters = blocksFor(tiles, blocking, H100, most) / blocking.cluster;
        expect(Number.isInteger(clusters)).toBe(true);
        expect(made(tiles, clusters).every((times) => times === 1)).toBe(true);
        expect(clusters).toBeGreaterThanOrEqual(Math.min(tiles, (H100 * blocking.blocks) / blocking.cluster));
        if (most) expect(Math.ceil(tiles / clusters)).toBeLessThanOrEqual(most);
      }
});

it('has blocks of few tiles as long as several GPUs are in a run', () => {
  const { backend } = registerCountingCuda('counting-grouped');
  const communicator = (size: number) => ({ rank: 0, size, close: () => {} }) as unknown as Communicator;
  expect(backend.groupedTiles).toBeUndefined();
  const several = new Gpus(backend, communicator(2));
  expect(backend.groupedTiles).toBe(TILES_BESIDE_COLLECTIVES);
  several.close();
  expect(backend.groupedTiles).toBeUndefined();
  new Gpus(backend, communicator(1));
  expect(backend.groupedTiles).toBeUndefined();
});
