// What attention launches and which memory it takes, on a device that does nothing else.
import { stickBreakingAttention } from '@stickbreaking/core';
import { setBackend, sum, tidy, valueAndGrads, zeros } from '@tensorflow/tfjs-core';
import { afterEach, expect, it } from 'vitest';
import { registerCountingCuda } from '../counting_device.js';
import { FAR } from './flash_far.js';
import { LEVELS } from './flash_levels.js';

const { backend, memory } = registerCountingCuda('counting-flash');

/**
 * Launches of the fused kernels of a forward and a backward: the kernel, the rows, and its blocks; how often memory was taken and
 * cleared in the forward; and how much memory stays.
 */
async function launched(tokens: number, heads = 2, dim = 64) {
  await setBackend('counting-flash');
  let launches: string[] = [];
  let [allocations, clears] = [0, 0];
  const { driver } = backend;
  const before = { launch: driver.launch, allocate: driver.allocate, call: driver.call };
  Object.assign(backend, {
    function: (_file: string, name: string, macros: string[]) => ({ name, macros: macros ?? [] }),
  });
  Object.assign(driver, {
    launch: (compiled: { name: string; macros: string[] }, { grid }: { grid: number[] }) => {
      const level = compiled.macros.find((macro) => macro.startsWith('LEVEL='))?.slice('LEVEL='.length);
      if (compiled.name.startsWith('flash_'))
        launches.push(`${compiled.name.slice('flash_'.length)}${level ? ` ${level}` : ''} ${grid[0]}`);
    },
    allocate: (bytes: number) => {
      allocations++;
      return before.allocate(bytes);
    },
    call: (name: string) => {
      if (name.startsWith('cuMemset')) clears++;
    },
  });
  const { used } = memory();
  const inputs = () => [0, 1, 2].map(() => zeros([tokens, heads, dim])) as [Tensor3, Tensor3, Tensor3];
  const attrs = { cuSeqlens: [0, tokens], cuSeqlensK: [0, tokens] };
  const taken = { allocations: 0, clears: 0 };
  let forward: string[] = [];
  tidy(() => {
    const [q, k, v] = inputs();
    [allocations, clears] = [0, 0];
    stickBreakingAttention(q, k, v, attrs);
    Object.assign(taken, { allocations, clears });
    forward = launches;
  });
  launches = [];
  tidy(() => {
    valueAndGrads((...given) => {
      const [q, k, v] = given as [Tensor3, Tensor3, Tensor3];
      return sum(stickBreakingAttention(q, k, v, attrs).output);
    })(inputs());
  });
  Object.assign(driver, before);
  return { forward, backward: launches.slice(forward.length), ...taken, stays: memory().used - used };
}
type Tensor3 = Parameters<typeof stickBreakingAttention>[0];

const apart = { levels: undefined, farRows: undefined };
afterEach(() => Object.assign(backend, { blockSkipping: true, levels: LEVELS, farRows: FAR }));

it('launches one kernel for all rows where blocks go as far as their farthest row, or every tile is wanted', async () => {
  Object.assign(backend, apart);
  await launched(5000); // uploads the plan
  const plain = await launched(5000);
  expect(plain.forward).toEqual([`forward ${Math.ceil(5000 / 256) * 2}`]);
  expect(plain.backward).toEqual([`backward ${Math.ceil(5000 / 192) * 2}`]);
  expect(plain.clears).toBe(0);
  Object.assign(backend, { blockSkipping: false, levels: LEVELS, farRows: FAR });
  expect(await launched(5000)).toEqual(plain);
});

it('gathers rows that look far by default: forward by levels, backward before the near rows', async () => {
  const first = await launched(5000);
  // Near rows have a block for 64 of each head, far ones one for 128, or as many as there is room for.
  expect(first.forward).toEqual([
    `forward NEAR_ROWS ${79 * 2}`,
    `forward FAR_ROWS ${40 * 2}`,
    `forward FAR_ROWS ${40 * 2}`,
  ]);
  // A block sorts a stretch of 1,024 rows of a head; groups, and key tiles, have a block each as far as there are multiprocessors.
  expect(first.backward).toEqual([
    `far_sort ${5 * 2}`,
    'far_queries 132',
    'far_keys 132',
    `backward NEAR_ROWS ${Math.ceil(5000 / 192) * 2}`,
  ]);
  // The workspace and the plan stay; from then on it takes what the kernel for all rows takes.
  expect(first.stays).toBeGreaterThan(4 * 5000 * 2 * 64);
  const second = await launched(5000);
  expect(second).toMatchObject({ forward: first.forward, backward: first.backward, clears: 1, stays: 0 });
  Object.assign(backend, apart);
  const plain = await launched(5000);
  expect(second.allocations).toBe(plain.allocations);
  Object.assign(backend, { levels: LEVELS, farRows: FAR });
  const long = await launched(40_000);
  expect(long.forward.slice(1)).toEqual(['forward FAR_ROWS 264', 'forward FAR_ROWS 264']);
  expect(long.backward.slice(0, 3)).toEqual(['far_sort 80', 'far_queries 132', 'far_keys 132']);
});

it('gathers nothing in short documents, nor at head dimensions whose backward is in two kernels', async () => {
  const short = await launched(4096);
  expect(short.forward).toEqual(['forward 32']);
  expect(short.backward).toEqual([`backward ${Math.ceil(4096 / 192) * 2}`]);
  const wide = await launched(5000, 1, 128);
  expect([...wide.forward, ...wide.backward].map((one) => one.split(' ')[0])).toEqual([
    'forward',
    'backward_queries',
    'backward_keys',
  ]);
  expect((await launched(5000, 1, 128)).clears).toBe(0);
});
