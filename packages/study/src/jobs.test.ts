import { describe, expect, it } from 'vitest';
import { gpuNames, jobsFor, type Queue, runTogether } from './jobs.js';
import type { Arm } from './study.js';

const arm = (id: string): Arm => ({ id, settings: {} });
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A queue whose arms take one turn of the event loop, and what happened. */
function watched(ids: string[], change: Partial<Queue> = {}) {
  const events: string[] = [];
  let [running, most] = [0, 0];
  const queue: Queue = {
    arms: ids.map(arm),
    jobs: 2,
    signal: new AbortController().signal,
    after: () => [],
    wanted: () => true,
    start: async ({ id }, slot) => {
      running++;
      most = Math.max(most, running);
      events.push(`start ${id} ${slot}`);
      await turn();
      running--;
      return true;
    },
    done: async ({ id }) => {
      events.push(`done ${id}`);
    },
    ...change,
  };
  return { queue, events, most: () => most };
}

describe('runTogether', () => {
  it('keeps as many arms running as it may, and no more', async () => {
    const { queue, events, most } = watched(['a', 'b', 'c', 'd', 'e']);
    await runTogether(queue);
    expect(most()).toBe(2);
    expect(events.filter((event) => event.startsWith('done'))).toHaveLength(5);
    expect(events.slice(0, 2)).toEqual(['start a 0', 'start b 1']);
  });

  it('lets an arm wait for those it comes after, and others pass it by', async () => {
    const { queue, events } = watched(['a', 'b', 'c'], { after: ({ id }) => (id === 'b' ? ['a'] : []) });
    await runTogether(queue);
    expect(events.indexOf('start c 1')).toBeLessThan(events.indexOf('done a'));
    expect(events.findIndex((event) => event.startsWith('start b'))).toBeGreaterThan(events.indexOf('done a'));
  });

  it('asks whether an arm is wanted only when its turn has come', async () => {
    const finished = new Set<string>();
    const { queue, events } = watched(['a', 'b'], {
      after: ({ id }) => (id === 'b' ? ['a'] : []),
      wanted: ({ id }) => id !== 'b' || !finished.has('a'),
    });
    const done: typeof queue.done = async ({ id }) => {
      finished.add(id);
    };
    await runTogether({ ...queue, done });
    expect(events.some((event) => event.startsWith('start b'))).toBe(false);
  });

  it('starts nothing after a failure, lets the others end, and tells it', async () => {
    const ended: string[] = [];
    const { queue } = watched(['a', 'b', 'c'], {
      start: async ({ id }) => {
        await turn();
        if (id === 'a') throw new Error('a broke');
        await turn();
        ended.push(id);
        return true;
      },
    });
    await expect(runTogether(queue)).rejects.toThrow('a broke');
    expect(ended).toEqual(['b']);
  });

  it('starts nothing once the signal has come', async () => {
    const stop = new AbortController();
    const started: string[] = [];
    const { queue } = watched(['a', 'b', 'c'], {
      signal: stop.signal,
      jobs: 1,
      start: async ({ id }) => {
        started.push(id);
        stop.abort();
        return false;
      },
    });
    await runTogether(queue);
    expect(started).toEqual(['a']);
  });
});

describe('how many arms run at once', () => {
  const GIB = 2 ** 30;
  it.each([
    ['one on a small machine', { gpus: 0, cores: 2, memory: 16 * GIB }, 1],
    ['by cores', { gpus: 0, cores: 64, memory: 512 * GIB }, 8],
    ['by memory', { gpus: 0, cores: 64, memory: 24 * GIB }, 3],
    ['one on each GPU', { gpus: 4, cores: 64, memory: 512 * GIB }, 4],
    ['no more than the cores that feed them', { gpus: 8, cores: 6, memory: 512 * GIB }, 6],
  ])('%s', (_, machine, jobs) => {
    expect(jobsFor(machine)).toBe(jobs);
  });

  it('on the GPUs that are visible, whether or not a variable names them', () => {
    expect(gpuNames(undefined, 3)).toEqual(['0', '1', '2']);
    expect(gpuNames('5,GPU-a', 2)).toEqual(['5', 'GPU-a']);
    expect(gpuNames('', 0)).toEqual([]);
  });
});
