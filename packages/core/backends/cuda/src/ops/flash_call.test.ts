// What attention launches and which memory it takes, on a device that does nothing else.
import { stickBreakingAttention } from '@stickbreaking/core';
import { setBackend, tidy, zeros } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { registerCountingCuda } from '../counting_device.js';
import { LEVELS } from './flash_levels.js';

const { backend, memory } = registerCountingCuda('counting-flash');

/** Launches of the fused kernels of a forward: the level of each, and its blocks; and how much memory stays. */
async function forward(tokens: number, heads = 2, dim = 64) {
  await setBackend('counting-flash');
  const launches: string[] = [];
  let [allocations, clears] = [0, 0];
  const { driver } = backend;
  const before = { launch: driver.launch, allocate: driver.allocate, call: driver.call };
  Object.assign(backend, {
    function: (_file: string, name: string, macros: string[]) => ({ name, macros: macros ?? [] }),
  });
  Object.assign(driver, {
    launch: (compiled: { name: string; macros: string[] }, { grid }: { grid: number[] }) => {
      const level = compiled.macros.find((macro) => macro.startsWith('LEVEL='));
      if (compiled.name === 'flash_forward') launches.push(`${level ?? 'all'} ${grid[0]}`);
    },
    allocate: (bytes: number) => {
      allocations++;
      return before.allocate(bytes);
    },
    call: (name: string) => {
      if (name.startsWith('cuMemset')) clears++;
    },
  });
  const used = memory().used;
  tidy(() => {
    const [q, k, v] = [zeros([tokens, heads, dim]), zeros([tokens, heads, dim]), zeros([tokens, heads, dim])];
    const cuSeqlens = [0, tokens];
    allocations = 0;
    stickBreakingAttention(q!, k!, v!, { cuSeqlens, cuSeqlensK: cuSeqlens });
  });
  Object.assign(driver, before);
  return { launches, allocations, clears, stays: memory().used - used };
}

it('launches one kernel for all rows, unless levels are asked for', async () => {
  await forward(5000); // uploads the plan
  const plain = await forward(5000);
  expect(plain.launches).toEqual([`all ${Math.ceil(5000 / 256) * 2}`]);
  expect(plain.clears).toBe(0);
  backend.levels = LEVELS;
  try {
    const first = await forward(5000);
    // Near rows have a block for 64 of each head, far ones one for 128, or as many as there is room for.
    expect(first.launches).toEqual([
      `LEVEL=NEAR_ROWS ${79 * 2}`,
      `LEVEL=FAR_ROWS ${40 * 2}`,
      `LEVEL=FAR_ROWS ${40 * 2}`,
    ]);
    // The workspace and the plan stay; from then on it takes what the kernel for all rows takes.
    expect(first.stays).toBeGreaterThan(4 * 5000 * 2 * 64);
    const second = await forward(5000);
    expect(second).toEqual({ ...first, allocations: plain.allocations, stays: plain.stays });
    expect(second.clears).toBe(1);
    expect((await forward(40_000)).launches.slice(1)).toEqual(['LEVEL=FAR_ROWS 264', 'LEVEL=FAR_ROWS 264']);
    // Short documents, head dimensions whose backward is in two kernels, and a call that computes every tile.
    expect((await forward(4096)).launches).toEqual(['all 32']);
    expect((await forward(5000, 1, 128)).launches).toHaveLength(1);
    backend.blockSkipping = false;
    expect((await forward(5000)).launches).toEqual(plain.launches);
  } finally {
    backend.blockSkipping = true;
    backend.levels = undefined;
  }
});
