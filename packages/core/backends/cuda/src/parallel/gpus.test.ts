// What the GPUs of a run ask of NCCL before anything is computed, on a device that only counts.
import { expect, it } from 'vitest';
import { registerCountingCuda } from '../counting_device.js';
import { Gpus } from './gpus.js';
import type { Communicator } from './nccl.js';

it.each([false, true])(
  'have a small collective of each kind at once, and keep no memory for it; exchanges: %s',
  (exchanges) => {
    const { backend, memory } = registerCountingCuda(`counting ${exchanges}`);
    const asked: [kind: string, ...where: number[]][] = [];
    const before = memory().used;
    const record =
      (kind: string) =>
      (...where: number[]) => {
        // In memory that is there now, and is given back below.
        expect(memory().used).toBeGreaterThan(before);
        asked.push([kind, ...where]);
      };
    const kinds = ['reduceScatter', 'allGather', 'allToAll'];
    const communicator = { rank: 1, size: 4, ...Object.fromEntries(kinds.map((kind) => [kind, record(kind)])) };
    new Gpus(backend, communicator as unknown as Communicator).connect(exchanges);
    expect(asked.map(([kind]) => kind)).toEqual(kinds.slice(0, exchanges ? 3 : 2));
    // What is exchanged goes to other memory than it comes from.
    if (exchanges) expect(asked[2]![2]! - asked[2]![1]!).toBe(4 * 4);
    expect(memory().used).toBe(before);
  },
);
