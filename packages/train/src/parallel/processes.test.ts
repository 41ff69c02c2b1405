// sb-train in several processes over MPI, with each library that is installed: the losses of one, any number of processes
// after a stop, and the whole run gone where one process is.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { native } from '@stickbreaking/core/native';
import { trainTokenizer } from '@stickbreaking/data';
import { readSafetensors } from '@stickbreaking/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointStore, readState } from '../checkpoint.js';
import { readMetrics, type StepMetrics, type ValidationMetrics } from '../metrics.js';
import { start } from './spawned.fixture.js';

const bin = fileURLToPath(new URL('../../bin/sb-train.js', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'processes-'));
const file = join(base, 'run.yaml');

const config = `output: ${join(base, 'alone')}
shards: ${join(base, 'tokens')}
tokenizer: ${join(base, 'tokenizer.json')}
batchTokens: 320
microBatchTokens: 64
model: { vocabSize: 300, hiddenSize: 32, intermediateSize: 48, numLayers: 2, numHeads: 2, contextLength: 32 }
stages:
  - steps: 12
    schedule: { kind: constant, peak: 0.01 }
    data: [{ path: ${join(base, 'text.jsonl')} }]
validation: { data: [{ path: ${join(base, 'text.jsonl')} }], tokens: 320, everySteps: 4 }
checkpoints: { everySteps: 3 }
`;

const has = (command: string) => spawnSync(command, ['--version']).error === undefined;
/** Debian installs both libraries side by side, under these names. */
const launchers = ['mpirun.openmpi', 'mpirun.mpich'].filter(has);
const installed = has('mpirun');
if (!installed) console.warn('no mpirun on the path: what needs MPI is skipped (Debian: openmpi-bin, mpich)');

/** Loaded before the command: ends the process at its n-th change to the disk. */
const killAtChange = `import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
let changes = 0;
for (const name of ['writeSync', 'renameSync', 'fsyncSync', 'mkdirSync', 'rmSync', 'copyFileSync']) {
  const real = fs[name];
  fs[name] = (...args) => {
    if (++changes === Number(process.env.FAULT_AT)) process.kill(process.pid, 'SIGKILL');
    return real(...args);
  };
}
syncBuiltinESMExports();
`;

/** The faster one by far: a process of `cpu` takes seconds of warming up. */
const backend = (await native.probe()).available ? 'native' : 'cpu';
const train = ['--config', file, '--backend', backend];
const output = (name: string) => `output=${join(base, name)}`;
/** sb-train, which starts the processes itself. */
const run = (processes: number, ...args: string[]) =>
  start(process.execPath, [bin, ...train, ...(processes > 1 ? ['--processes', String(processes)] : []), ...args]);

/** mpirun, which starts processes of sb-train. */
function under(launcher: string, processes: number, args: string[], env?: NodeJS.ProcessEnv) {
  const asRoot = process.getuid?.() === 0 ? ['--allow-run-as-root'] : [];
  const options = launcher.endsWith('openmpi') ? [...asRoot, '--oversubscribe', '--bind-to', 'none'] : [];
  return start(launcher, [...options, '-n', String(processes), process.execPath, bin, ...train, ...args], env);
}

const metrics = (name: string) => readMetrics(join(base, name, 'metrics.jsonl'));
const isStep = (line: object): line is StepMetrics => 'loss' in line;
const lossesOf = (name: string) =>
  metrics(name)
    .filter(isStep)
    .map(({ loss }) => loss!);
const validationOf = (name: string) =>
  (metrics(name).filter((line) => !isStep(line)) as ValidationMetrics[]).map(({ validationLoss }) => validationLoss);
const checkpoints = (name: string) => new CheckpointStore(join(base, name, 'checkpoints'), { last: 3, best: true });
const stateOf = (name: string) => readState(checkpoints(name).latest()!);

function expectClose(name: string, most: number): void {
  for (const of of [lossesOf, validationOf]) {
    expect(of(name)).toHaveLength(of('alone').length);
    for (const [i, loss] of of(name).entries()) expect(Math.abs(loss - of('alone')[i]!)).toBeLessThan(most);
  }
  const { best: _, ...state } = stateOf(name);
  expect(state).toEqual({ ...stateOf('alone'), best: undefined });
}

beforeAll(async () => {
  const words = 'the of union state and nation people our congress to war peace treasury law with public'.split(' ');
  const random = seededRandom(7, 'words');
  const word = () => words[random.integer(words.length)];
  const documents = Array.from({ length: 60 }, (_, i) => Array.from({ length: 20 + (i % 7) * 10 }, word).join(' '));
  writeFileSync(join(base, 'text.jsonl'), documents.map((text) => `${JSON.stringify({ text })}\n`).join(''));
  const source = { path: join(base, 'text.jsonl') };
  await trainTokenizer({ sources: [source], vocabSize: 300, output: join(base, 'tokenizer.json') });
  writeFileSync(file, config);
  expect(await run(1).ended).toMatchObject({ code: 0 });
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

describe.skipIf(!installed)('several processes', () => {
  it.each(launchers)('under %s have the losses, validation and data of one', async (launcher) => {
    const { code, stderr } = await under(launcher, 2, [output(launcher)], { UCX_MEM_LOG_LEVEL: 'debug' }).ended;
    expect(code, stderr).toBe(0);
    expect(stderr).not.toMatch(/installing bistro hook/);
    expectClose(launcher, 1e-6);
  });

  it('are started by --processes, give the same bits twice, and speak with one voice', async () => {
    for (const name of ['three', 'three again']) {
      const { code, stderr } = await run(3, output(name), ...(name === 'three' ? [] : ['stages.0.steps=3'])).ended;
      expect(code, stderr).toBe(0);
      expect(stderr.match(/^done after step/gm)).toHaveLength(1);
    }
    expectClose('three', 1e-6);
    expect(lossesOf('three again')).toEqual(lossesOf('three').slice(0, 3));
  });

  it('have the losses of one with a mixture of experts, and where its tokens went', async () => {
    const experts = [
      'model={vocabSize: 300, hiddenSize: 32, numLayers: 2, numHeads: 2, contextLength: 32, experts: {count: 4, active: 2, intermediateSize: 24, balanceOver: step}}',
    ];
    for (const processes of [1, 2]) {
      const { code, stderr } = await run(processes, output(`experts ${processes}`), ...experts, 'stages.0.steps=6')
        .ended;
      expect(code, stderr).toBe(0);
    }
    const [one, two] = [1, 2].map((processes) => metrics(`experts ${processes}`).filter(isStep));
    expect(two).toHaveLength(6);
    for (const [i, step] of two!.entries()) {
      for (const key of ['loss', 'balanceLoss', 'zLoss', 'busiest', 'idleExperts'] as const)
        expect(Math.abs(step[key]! - one![i]![key]!), key).toBeLessThan(1e-6);
    }
  });

  it.each([
    ['optimizer', 2],
    ['gradients', 3],
  ] as const)('share the %s in %d, with the losses of one', async (shard, processes) => {
    const name = `${shard} ${processes}`;
    const settings = (one: string) => [output(one), `parallel.shard=${shard}`];
    const { code, stderr } = await run(processes, ...settings(name)).ended;
    expect(code, stderr).toBe(0);
    expectClose(name, 1e-6);
    const files = ['model', 'optimizer'].map((file) =>
      readSafetensors(join(checkpoints(name).latest()!, `${file}.safetensors`)),
    );
    const alone = ['model', 'optimizer'].map((file) =>
      readSafetensors(join(checkpoints('alone').latest()!, `${file}.safetensors`)),
    );
    for (const [i, file] of files.entries()) {
      expect(file.names).toEqual(alone[i]!.names);
      for (const one of file.names) {
        const values = alone[i]!.read(one);
        expect(Math.max(...file.read(one).map((x, j) => Math.abs(x - values[j]!)))).toBeLessThan(1e-4);
      }
      for (const one of [file, alone[i]!]) one.close();
    }
    // Stopped in the middle, and gone on with in another number that shares nothing.
    const elastic = `${shard} elastic`;
    expect(await run(2, ...settings(elastic), 'stages.0.steps=5').ended).toMatchObject({ code: 0 });
    expect(await run(1, output(elastic), '--resume').ended).toMatchObject({ code: 0 });
    for (const [i, loss] of lossesOf(elastic).entries()) expect(loss).toBeCloseTo(lossesOf('alone')[i]!, 5);
  });

  // Documents straddle the processes' parts, which are of 32 tokens.
  it.each([
    ['2 of 2', 2, ['parallel.context=2']],
    [
      '2 of 4, of which some have nothing to do at the end',
      4,
      ['parallel.context=2', 'parallel.shard=optimizer', 'recompute=attention'],
    ],
    // More than there are heads.
    ['4 in a ring', 4, ['parallel.context=4', 'parallel.contextBy=ring', 'recompute=attention']],
  ] as const)('share sequences, with the losses of one: %s', async (name, processes, settings) => {
    const { code, stderr } = await run(processes, output(name), ...settings).ended;
    expect(code, stderr).toBe(0);
    expectClose(name, 1e-6);
  });

  it.each([
    ['all of everything', 2, []],
    ['the optimizer', 2, ['parallel.shard=optimizer']],
    ['the gradients', 3, ['parallel.shard=gradients']],
    ['sequences', 2, ['parallel.context=2']],
  ] as const)(
    'have nearly the losses of one where gradients travel in bfloat16 and they share %s',
    async (name, processes, settings) => {
      const rounds = [...settings, 'parallel.reduceType=bfloat16'];
      const { code, stderr } = await run(processes, output(`rounded ${name}`), ...rounds).ended;
      expect(code, stderr).toBe(0);
      const differences = lossesOf(`rounded ${name}`).map((loss, i) => Math.abs(loss - lossesOf('alone')[i]!));
      expect(differences).toHaveLength(12);
      // The first step's is of weights that no gradient has changed; gradients off by one in 256 change the rest.
      expect(differences[0]).toBeLessThan(1e-6);
      expect(Math.max(...differences)).toBeLessThan(2e-2);
      expect(Math.max(...differences)).toBeGreaterThan(1e-6);
      // Stopped and gone on with: the same bits. Another form is another run.
      const again = `rounded again ${name}`;
      const half = await run(processes, output(again), ...rounds, 'stages.0.steps=6').ended;
      expect(half.code, half.stderr).toBe(0);
      const other = await run(processes, output(again), ...settings, '--resume').ended;
      expect(other.code).toBe(4);
      expect(other.stderr).toMatch(
        /: parallel\.reduceType was "bfloat16" and is "float32" now; change it back, or start/,
      );
      expect(await run(processes, output(again), ...rounds, '--resume').ended).toMatchObject({ code: 0 });
      expect(lossesOf(again)).toEqual(lossesOf(`rounded ${name}`));
    },
  );

  it('are as many as share a sequence, or it is said', async () => {
    const { code, stderr } = await run(3, output('odd'), 'parallel.context=2').ended;
    expect(code).toBe(1);
    expect(stderr.trim()).toMatch(
      /parallel\.context is 2, so a run needs 2 processes or a multiple of it, and there are 3: start as many by --gpus or --processes, or set parallel\.context\.$/,
    );
    expect(existsSync(join(base, 'odd', 'metrics.jsonl'))).toBe(false);
  });

  it('go on in another number: 4, 1, 2', async () => {
    for (const [i, processes] of [4, 1, 2].entries()) {
      const { code, stderr } = await run(processes, output('elastic'), '--resume', `stages.0.steps=${4 * i + 4}`).ended;
      expect(code, stderr).toBe(0);
    }
    const of = (name: string) => lossesOf(name).length;
    expect(of('elastic')).toBe(of('alone'));
    for (const [i, loss] of lossesOf('elastic').entries()) expect(loss).toBeCloseTo(lossesOf('alone')[i]!, 5);
    expect(stateOf('elastic').cursor).toEqual(stateOf('alone').cursor);
  });
});

/** The process of a rank above 0, once it is in the given step. */
async function processOf(name: string, rank: number, step: number): Promise<number> {
  const log = join(base, name, 'ranks', `rank-00${rank}.log`);
  while (!existsSync(log) || !existsSync(join(base, name, 'metrics.jsonl')) || metrics(name).length < step)
    await new Promise((wait) => setTimeout(wait, 20));
  return JSON.parse(readFileSync(log, 'utf8').split('\n')[0]!).pid;
}

describe.skipIf(!installed)('where one process', () => {
  const long = ['stages.0.steps=100000', 'validation.everySteps=100000', 'checkpoints.everySteps=5'];

  it('is killed, all end, it is named, and the last checkpoint is whole', async () => {
    const { ended } = run(3, output('killed'), ...long);
    process.kill(await processOf('killed', 2, 6), 'SIGKILL');
    const { code, stderr } = await ended;
    expect(code).not.toBe(0);
    expect(stderr).toMatch(
      /^rank 2 \(.*\), process \d+, ended in step \d+; all others end; go on with --resume from step-\d{8}$/m,
    );
    const { step } = stateOf('killed');
    expect(step % 5).toBe(0);
    for (const name of ['model', 'optimizer'])
      readSafetensors(join(checkpoints('killed').latest()!, `${name}.safetensors`)).close();
  });

  it('is the first and is killed while it saves, what is called a checkpoint is whole, and the run goes on from it', async () => {
    const random = seededRandom(chooseSeed(), 'kill points');
    const preload = join(base, 'preload.mjs');
    writeFileSync(preload, killAtChange);
    // The first of three saves or so: a save makes some twenty changes to the disk.
    const at = String(10 + random.integer(50));
    const ranks = ['-n', '1', process.execPath, '--import', preload, bin, ...train, output('saving')];
    const others = [':', '-n', '1', process.execPath, bin, ...train, output('saving')];
    const launcher = launchers[0] ?? 'mpirun';
    const asRoot =
      process.getuid?.() === 0 && launcher.endsWith('openmpi') ? ['--allow-run-as-root', '--oversubscribe'] : [];
    const { code } = await start(launcher, [...asRoot, ...ranks, ...others], { FAULT_AT: at }).ended;
    expect(code, `killed at change ${at}`).not.toBe(0);
    const latest = checkpoints('saving').latest();
    if (latest) for (const name of ['model', 'optimizer']) readSafetensors(join(latest, `${name}.safetensors`)).close();
    const resumed = await run(1, output('saving'), '--resume').ended;
    expect(resumed.code, resumed.stderr).toBe(0);
    expectClose('saving', 1e-5);
  });

  it('is the first and is killed, another one says so', async () => {
    const { ended } = run(2, output('headless'), ...long);
    await processOf('headless', 1, 3);
    const log = readFileSync(join(base, 'headless', 'train.log'), 'utf8');
    process.kill(JSON.parse(log.split('\n')[0]!).pid, 'SIGKILL');
    const { code, stderr } = await ended;
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/^rank 0 ended \(step \d+\); all others end/m);
  });

  it('is told to stop, all save at the same step and end alike', async () => {
    const { child, ended } = run(3, output('stopped'), ...long);
    const pid = await processOf('stopped', 1, 4);
    process.kill(pid, 'SIGTERM');
    expect(await ended).toMatchObject({ code: 143 });
    expect(child.exitCode).toBe(143);
    expect(stateOf('stopped').step).toBe(metrics('stopped').filter(isStep).length);
  });

  it('hangs, all others end and name it', async () => {
    const { ended } = run(3, output('asleep'), ...long);
    const pid = await processOf('asleep', 2, 4);
    process.kill(pid, 'SIGSTOP');
    try {
      const { code, stderr } = await ended;
      expect(code).not.toBe(0);
      expect(stderr).toMatch(
        /^rank 2 \(.*\), process \d+, has not answered for \d+ s (in step \d+|before the first step); all others end/m,
      );
    } finally {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {}
    }
  });

  it('fails, its message is the one that is read', async () => {
    rmSync(join(base, 'gone'), { recursive: true, force: true });
    const { code, stderr } = await run(2, output('failing'), 'optimizer.beta2=0.5', 'startFrom=/nowhere').ended;
    expect(code).toBe(1);
    expect(stderr.match(/There is no checkpoint at \/nowhere/g)).toHaveLength(1);
  });

  it.each(launchers.slice(0, 1))(
    'runs another configuration under %s, that is refused with the key',
    async (launcher) => {
      const asRoot = process.getuid?.() === 0 && launcher.endsWith('openmpi') ? ['--allow-run-as-root'] : [];
      const options = launcher.endsWith('openmpi') ? [...asRoot, '--oversubscribe'] : [];
      const own = [process.execPath, bin, ...train, output('other')];
      const { ended } = start(launcher, [
        ...options,
        '-n',
        '1',
        ...own,
        ':',
        '-n',
        '1',
        ...own,
        'optimizer.beta2=0.99',
      ]);
      const { code, stderr } = await ended;
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^rank 1 \(.*\) runs another configuration \(optimizer\.beta2 0\.99, rank 0 has 0\.95\)$/m,
      );
      expect(existsSync(join(base, 'other', 'metrics.jsonl'))).toBe(false);
    },
  );
});
