import { afterEach, describe, expect, it, vi } from 'vitest';
import { commandLine, gpusAsked, narrowGpus, type ParallelArguments, startProcesses } from './start.js';

const nothing: ParallelArguments = {
  ...{ processes: undefined, gpus: undefined, nodes: undefined, node: undefined, master: undefined },
};
const start = (args: Partial<ParallelArguments>, backend = 'auto', gpus = 4) =>
  startProcesses({ ...nothing, ...args }, backend, () => Promise.resolve(gpus));

afterEach(() => vi.unstubAllEnvs());

describe('the options for several processes', () => {
  it.each([
    [{}, 'auto'],
    [{ processes: 1 }, 'native'],
    [{ gpus: '1' }, 'cuda'],
  ])('leave the process alone: %o', async (args, backend) => {
    expect(await start(args, backend)).toEqual({ place: undefined });
  });

  it.each([
    [{ processes: 0 }, 'auto', /^--processes is 0; expected a whole number from 1/],
    [{ processes: 1e6 }, 'auto', /^--processes is 1000000; expected a whole number from 1 to \d+, as this machine has/],
    [{ processes: 2 }, 'cuda', /^--processes is for the CPU, and the backend is cuda: use --gpus/],
    [{ processes: 2, gpus: '2' }, 'auto', /leave one of the two out/],
    [{ gpus: 'many' }, 'auto', /^--gpus is 'many'; expected a whole number from 1, or all/],
    [{ gpus: '2' }, 'native', /^--gpus needs the backend cuda, and it is native/],
    [{ gpus: '8' }, 'auto', /^--gpus 8: this machine shows 4 GPUs/],
    [{ nodes: 0, node: 0, master: 'a:1', gpus: '2' }, 'auto', /^--nodes is 0; expected a whole number from 1/],
    [{ nodes: 2, gpus: '2' }, 'auto', /^--nodes, --node and --master go together/],
    [{ nodes: 2, node: 2, master: 'a:1', gpus: '2' }, 'auto', /^--node is 2; expected a whole number from 0 to 1/],
    [{ nodes: 2, node: 0, master: 'a', gpus: '2' }, 'auto', /^--master is 'a'; expected host:port/],
  ])('that do not fit are refused: %o', async (args, backend, message) => {
    await expect(start(args, backend)).rejects.toThrow(message);
  });

  it.each([
    [{ processes: 3 }, 'auto', 'native', 3],
    [{ processes: 3 }, 'cpu', 'cpu', 3],
    [{ gpus: '4' }, 'auto', 'cuda', 4],
    [{ gpus: '4', nodes: 2, node: 0, master: 'a:1' }, 'cuda', 'cuda', 8],
  ])('are asked for permission before any process is started: %o', async (args, backend, ...asked) => {
    const permit = vi.fn(() => {
      throw new Error('not so many');
    });
    const there = () => Promise.resolve(4);
    await expect(startProcesses({ ...nothing, ...args }, backend, there, permit)).rejects.toThrow('not so many');
    expect(permit.mock.calls).toEqual([asked]);
  });

  it('are refused in a process that a launcher has started', async () => {
    vi.stubEnv('RANK', '1');
    vi.stubEnv('WORLD_SIZE', '2');
    vi.stubEnv('MASTER_ADDR', 'a');
    vi.stubEnv('MASTER_PORT', '1');
    await expect(start({ gpus: '2' })).rejects.toThrow(/process 1 of 2 that torchrun started/);
    await expect(start({ gpus: 'all' })).rejects.toThrow(/^--gpus starts processes of its own/);
    expect(await start({}, 'native')).toMatchObject({ place: { rank: 1, size: 2 } });
  });

  it.each(['auto', 'cuda'])(
    'leave a launched process its own GPU before anything looks for one: %s',
    async (backend) => {
      for (const [name, value] of Object.entries({ SLURM_STEP_NUM_TASKS: '4', SLURM_PROCID: '2', SLURM_LOCALID: '2' }))
        vi.stubEnv(name, value);
      vi.stubEnv('CUDA_VISIBLE_DEVICES', undefined);
      const looked = () => Promise.reject(new Error('looked for GPUs'));
      expect(await startProcesses(nothing, backend, looked)).toMatchObject({
        place: { localRank: 2, launcher: 'srun' },
      });
      expect(process.env.CUDA_VISIBLE_DEVICES).toBe('2');
    },
  );

  it('say how many GPUs a plan is for, there or not', async () => {
    const none = () => Promise.resolve(0);
    expect(await gpusAsked({ gpus: '8' }, none, false)).toBe(8);
    expect(await gpusAsked({ gpus: undefined }, none, true)).toBeUndefined();
    await expect(gpusAsked({ gpus: '0' }, none, false)).rejects.toThrow(/^--gpus is '0'; expected a whole number/);
    await expect(gpusAsked({ gpus: 'all' }, none, false)).rejects.toThrow(
      /^--gpus all: this machine shows no NVIDIA GPU \(see nvidia-smi\)/,
    );
  });

  it('are not passed on', () => {
    const argv = [
      'sb-train.js',
      '--config',
      'a.yaml',
      '--gpus',
      '4',
      '--nodes=2',
      'seed=1',
      '--resume',
      '--processes',
      '2',
    ];
    expect(commandLine(argv)).toEqual(['sb-train.js', '--config', 'a.yaml', 'seed=1', '--resume']);
  });
});

describe('the GPU of a process', () => {
  const place = { rank: 5, size: 8, localRank: 1, localSize: 4, launcher: 'srun' } as const;
  it.each([
    [undefined, '1'],
    ['4,6,7,9', '6'],
    ['GPU-a,GPU-b,GPU-c,GPU-d', 'GPU-b'],
    // Slurm has bound it.
    ['3', '3'],
  ])('of CUDA_VISIBLE_DEVICES %s is %s', (visible, own) => {
    vi.stubEnv('CUDA_VISIBLE_DEVICES', visible);
    narrowGpus(place);
    expect(process.env.CUDA_VISIBLE_DEVICES).toBe(own);
  });

  it('is none where none is to be seen and the backend may be another', () => {
    vi.stubEnv('CUDA_VISIBLE_DEVICES', '');
    narrowGpus(place, 'auto');
    expect(process.env.CUDA_VISIBLE_DEVICES).toBe('');
    expect(() => narrowGpus(place)).toThrow(/CUDA_VISIBLE_DEVICES shows 0 GPUs/);
  });

  it('is missing where there are fewer than processes', () => {
    vi.stubEnv('CUDA_VISIBLE_DEVICES', '0,1');
    expect(() => narrowGpus(place)).toThrow(
      /^srun started 4 processes on this machine, and CUDA_VISIBLE_DEVICES shows 2/,
    );
  });
});
