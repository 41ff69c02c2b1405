// sb-train as people run it: in processes of its own, killed, stopped, and started with things that are wrong.
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { seededRandom } from '@stickbreaking/base';
import { native } from '@stickbreaking/core/native';
import { trainTokenizer } from '@stickbreaking/data';
import { beforeAll, describe, expect, test } from 'vitest';
import { CheckpointStore, readState } from './checkpoint.js';
import { readMetrics, type StepMetrics, type Written } from './metrics.js';
import { loadRunConfig } from './run_config.js';
import { runHere as trainHere } from './run_here.fixture.js';

const bin = fileURLToPath(new URL('../bin/sb-train.js', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'sb-train-'));
const configFile = join(base, 'run.yaml');

const config = `output: ${join(base, 'reference')}
shards: ${join(base, 'tokens')}
tokenizer: ${join(base, 'tokenizer.json')}
batchTokens: 128
microBatchTokens: 64
model:
  vocabSize: 300
  hiddenSize: 16
  intermediateSize: 24
  numLayers: 1
  numHeads: 2
  contextLength: 32
stages:
  - steps: 6
    schedule: { kind: power, peak: 0.01, warmupSteps: 2 }
    data: [{ path: ${join(base, 'text.jsonl')} }]
  - steps: 4
    contextLength: 64
    schedule: { kind: exponential }
validation: { data: [{ path: ${join(base, 'text.jsonl')} }], tokens: 64, everySteps: 3 }
checkpoints: { everySteps: 2, keepLast: 2 }
`;

/** Many processes, one after the other: no matter of speed, on a machine that has other work too. */
const patience = 600_000;

/** Loaded before the command: lets the disk be full from its n-th change on. What kills do, `npm run torture` tries. */
const preload = `import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
const at = Number(process.env.FULL_AT);
let changes = 0;
for (const name of ['writeSync', 'mkdirSync', 'copyFileSync']) {
  const real = fs[name];
  fs[name] = (...args) => {
    const isShown = name === 'writeSync' && args[0] <= 2; // on the terminal, not on the disk
    if (!isShown && ++changes > at) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    return real(...args);
  };
}
syncBuiltinESMExports();
`;

/** The faster one by far for models as small as these. */
const backend = (await native.probe()).available ? 'native' : 'cpu';

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

function start(args: string[], fullAt?: number) {
  const imports = fullAt !== undefined ? ['--import', join(base, 'preload.mjs')] : [];
  const child = spawn(process.execPath, [...imports, bin, '--config', configFile, '--backend', backend, ...args], {
    env: { ...process.env, FULL_AT: String(fullAt) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, ended };
}

const run = (args: string[], fullAt?: number) => start(args, fullAt).ended;

/** The same in this process, for what ends before it trains. */
const runHere = (args: string[]) => trainHere(['--config', configFile, '--backend', backend, ...args]);

/** The losses of a run, as they stand in its file. */
const losses = (directory: string) =>
  readMetrics(join(base, directory, 'metrics.jsonl')).map((line) => {
    const { tokensPerSecond, flopsPerSecond, memoryBytes, time, elapsedSeconds, ...rest } =
      line as Partial<StepMetrics> & Written;
    return rest;
  });

const checkpoints = (directory: string) =>
  new CheckpointStore(join(base, directory, 'checkpoints'), { last: 2, best: true });

/** The names of everything under a run's directory. */
const listing = (directory: string) => readdirSync(join(base, directory), { recursive: true }).map(String).sort();

function expectSameRun(directory: string): void {
  expect(losses(directory)).toEqual(losses('reference'));
  expect(listing(directory)).toEqual(listing('reference'));
  for (const step of checkpoints('reference').steps()) {
    for (const file of ['model.safetensors', 'optimizer.safetensors', 'state.json']) {
      const bytes = (name: string) => readFileSync(join(checkpoints(name).path(step), file));
      expect(bytes(directory).equals(bytes('reference')), `${file} of step ${step}`).toBe(true);
    }
  }
}

beforeAll(async () => {
  const words = 'the of union state and nation people our congress to war peace treasury law with public'.split(' ');
  const random = seededRandom(7, 'words');
  const word = () => words[random.integer(words.length)];
  const documents = Array.from({ length: 60 }, (_, i) => Array.from({ length: 20 + (i % 7) * 10 }, word).join(' '));
  writeFileSync(join(base, 'text.jsonl'), documents.map((text) => `${JSON.stringify({ text })}\n`).join(''));
  const source = { path: join(base, 'text.jsonl') };
  await trainTokenizer({ sources: [source], vocabSize: 300, output: join(base, 'tokenizer.json') });
  writeFileSync(configFile, config);
  writeFileSync(join(base, 'preload.mjs'), preload);
  const reference = await run([]);
  expect(reference).toMatchObject({ code: 0 });
  expect(losses('reference')).toHaveLength(10 + 4);
}, patience);

test('a checkpoint brings what transformers opens it and ends its texts with', () => {
  const directory = checkpoints('reference').latest()!;
  const json = (name: string) => JSON.parse(readFileSync(join(directory, name), 'utf8'));
  const { added_tokens: added } = json('tokenizer.json') as { added_tokens: { id: number; content: string }[] };
  const end = added.find(({ content }) => content === json('tokenizer_config.json').eos_token)!;
  expect(json('config.json')).toMatchObject({ eos_token_id: end.id, auto_map: {} });
  expect(Object.keys(json('checksums.json').files)).toContain('modeling_stickbreaking.py');
});

describe.skipIf(process.platform === 'win32')('a run that is stopped', { timeout: patience }, () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
    ['SIGUSR1', 138],
    ['SIGUSR2', 140],
    ['SIGXCPU', 152],
  ] as const)('by %s saves, leaves with its code, and goes on to the same losses', async (signal, code) => {
    const output = `output=${join(base, signal)}`;
    const { child, ended } = start([output]);
    const metrics = join(base, signal, 'metrics.jsonl');
    while (!existsSync(metrics) || readMetrics(metrics).length < 1) await new Promise((wait) => setTimeout(wait, 5));
    child.kill(signal);
    const { code: exitCode, stderr } = await ended;
    expect(exitCode).toBe(code);
    expect(stderr).toContain(`${signal}: saving and leaving`);
    const step = checkpoints(signal).steps().at(-1)!;
    expect(stderr).toContain(`stopped after step ${step}`);
    expect(step).toBeLessThan(10);
    expect(readMetrics(metrics).at(-1)!.step).toBe(step);
    expect(await run([output, '--resume'])).toMatchObject({ code: 0 });
    expect(losses(signal)).toEqual(losses('reference'));
  });

  test('is not stopped by a reader that goes away', async () => {
    const { child, ended } = start([`output=${join(base, 'unread')}`]);
    child.stderr.once('data', () => child.stderr.destroy());
    child.stdout.destroy();
    expect((await ended).code).toBe(0);
    expect(checkpoints('unread').steps().at(-1)).toBe(10);
    expect(losses('unread')).toEqual(losses('reference'));
    expect(existsSync(join(base, 'unread', '.lock'))).toBe(false);
  });

  test('by a full disk, wherever, says so in one line and keeps the last checkpoint', async () => {
    let failures = 0;
    for (let at = 1; at < 60; at += 19) {
      const { code, stderr } = await run([`output=${join(base, 'full')}`, '--resume'], at);
      if (code === 0) break;
      failures++;
      expect(code).toBe(1);
      expect(stderr.trim().split('\n').at(-1)).toMatch(/^cannot (write|make the directory) .*the disk is full; free/);
      expect(stderr).not.toMatch(/\n\s+at /);
      const latest = checkpoints('full').latest();
      if (latest) readState(latest);
    }
    expect(failures).toBeGreaterThan(1);
    expect(await run([`output=${join(base, 'full')}`, '--resume'])).toMatchObject({ code: 0 });
    expectSameRun('full');
  });
});

describe('what is wrong is told in one line', () => {
  const before = () => readdirSync(base).sort();

  test.each([
    ['a missing file', ['stages.0.data.0.path=no.jsonl'], /cannot read .*no\.jsonl: there is no such file/],
    ['a missing tokenizer', ['tokenizer=no.json'], /cannot read the tokenizer .*no\.json/],
    ['a misspelt key', ['model.hidenSize=3'], /override 'model.hidenSize=3': .* did you mean 'model\.hiddenSize'\?/],
    ['a key in small letters', ['parallel.reducetype=bfloat16'], /; did you mean 'parallel\.reduceType'\?$/m],
    [
      'a key without where it is',
      ['reduceType=bfloat16'],
      /'reduceType' is not known; did you mean 'parallel\.reduceType'\?$/m,
    ],
    ['a small vocabulary', ['model.vocabSize=200'], /tokenizer .* has 300 tokens, more than the model's vocabulary/],
    ['too long a context', ['model.contextLength=128'], /contextLength: expected at most microBatchTokens \(64\)/],
    [
      'samples of weights that no process has',
      ['parallel.shard=weights', 'samples={prompts: [a]}'],
      /samples.*expected none where parallel\.shard is weights/,
    ],
    [
      'sums in order of a shared sequence',
      ['parallel.context=2', 'parallel.orderedSums=true'],
      /parallel\.context: expected 1 where parallel\.orderedSums is set/,
    ],
    [
      'a ring of softmax',
      ['parallel.context=2', 'parallel.contextBy=ring', 'model.attention=softmax+rope'],
      /parallel\.context: expected 1 with this attention, whose keys .* take stick-breaking/,
    ],
    ['batches that do not divide', ['batchTokens=100'], /batchTokens .*multiple of microBatchTokens \(64\)/],
    ['too much memory', ['model.hiddenSize=160000', 'model.intermediateSize=400000'], /takes about .* of memory/],
    ['a stage with two lengths', ['stages.0.tokens=100'], /expected either tokens or steps/],
    ['no backend of that name', ['backend=abacus', '--backend', 'abacus'], /Backend 'abacus' is not known/],
    [
      'a start from another model',
      [`startFrom=${join(base, 'reference')}`, 'model.numLayers=2', 'stages.0.data.0.path=untouched.jsonl'],
      /startFrom: .* is of another model: 'model\.layers\.1\./,
    ],
    [
      'a directory that is a file',
      [`output=${configFile}`],
      /cannot make the directory .*run\.yaml: .*run\.yaml is no directory/,
    ],
  ])('%s', async (_, args, message) => {
    const files = before();
    const { code, stderr, stdout } = await runHere([`output=${join(base, 'wrong')}`, ...args]);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(before()).toEqual(files);
  });

  // Before a process is started, so that it is told once.
  test.each([
    [['parallel.orderedSums=true'], /^parallel\.orderedSums is for 1, 2, 4 or 8 GPUs, and this run is on the backend /],
    [['--processes', '2', 'parallel.orderedSums=true'], /^parallel\.orderedSums .* the backend .*: leave it out\.$/],
    [['--processes', '2', 'parallel.shard=weights'], /^parallel\.shard is weights, which is for GPUs: take gradients/],
    [['--processes', '3', 'parallel.context=2'], /^parallel\.context is 2, so a run needs 2 .* and there are 3: start/],
    [['parallel.context=2'], /^parallel\.context is 2, so a run needs 2 processes .* and there is one: start as many/],
  ])('a run that cannot be in so many processes, and its plan: %j', async (args, message) => {
    const planned = await runHere([`output=${join(base, 'wrong')}`, ...args, '--plan']);
    expect(planned).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^[^\n]+\n$/) });
    expect(planned.stderr.trim()).toMatch(message);
    expect(await runHere([`output=${join(base, 'wrong')}`, ...args])).toEqual(planned);
  });

  test.each([
    [['--processes', '0'], /^--processes is 0; expected a whole number from 1/],
    [['--processes', '2', '--gpus', '2'], /leave one of the two out/],
    [['--gpus', '2'], /^--gpus needs the backend cuda, and it is /],
  ])('options that do not fit together, of a plan too: %j', async (args, message) => {
    const planned = await runHere([...args, '--plan']);
    expect(planned).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(message) });
    expect(await runHere(args)).toEqual(planned);
  });

  test('an empty source', async () => {
    writeFileSync(join(base, 'empty.jsonl'), '');
    const { code, stderr } = await runHere([
      `output=${join(base, 'wrong')}`,
      `stages.0.data.0.path=${join(base, 'empty.jsonl')}`,
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/empty\.jsonl is empty/);
    expect(existsSync(join(base, 'wrong'))).toBe(false);
  });

  test('a run that is there already, and a checkpoint of another configuration', async () => {
    expect((await runHere([])).stderr).toMatch(/holds a run already .* --resume/);
    const { code, stderr } = await runHere(['--resume', 'stages.0.schedule.peak=0.02']);
    expect(code).toBe(4);
    expect(stderr).toMatch(/of another configuration: stages\.0\.schedule\.peak was 0\.01 and is 0\.02 now/);
    expect((await runHere(['--resume', 'model.numLayers=2'])).stderr).toMatch(/model\.numLayers was 1 and is 2 now/);
  });

  test('the checkpoint that a run started from may be gone when it goes on', async () => {
    const start = join(base, 'start');
    const args = [`output=${join(base, 'continued')}`, `startFrom=${start}`];
    cpSync(checkpoints('reference').latest()!, start, { recursive: true });
    expect((await runHere(args)).code).toBe(0);
    rmSync(start, { recursive: true });
    expect((await runHere([...args, '--resume'])).code).toBe(0);
    const { code, stderr } = await runHere([`output=${join(base, 'anew')}`, `startFrom=${start}`]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/There is no checkpoint at .*start: no such directory/);
  });

  test('a damaged checkpoint', async () => {
    const broken = join(base, 'broken', 'checkpoints', 'step-00000010');
    mkdirSync(broken, { recursive: true });
    const good = checkpoints('reference').latest()!;
    for (const file of readdirSync(good)) copyFileSync(join(good, file), join(broken, file));
    writeFileSync(join(broken, 'model.safetensors'), readFileSync(join(good, 'model.safetensors')).subarray(0, 999));
    const { code, stderr } = await runHere([`output=${join(base, 'broken')}`, '--resume']);
    expect(code).toBe(4);
    expect(stderr.trim().split('\n').at(-1)).toMatch(/model\.safetensors/);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});

describe('--plan', () => {
  test('gives the numbers as JSON, trains nothing and writes nothing', async () => {
    const files = readdirSync(base).sort();
    const { code, stdout } = await runHere([`output=${join(base, 'planned')}`, '--plan', '--json']);
    expect(code).toBe(0);
    const plan = JSON.parse(stdout);
    expect(plan.parameters).toBe(2 * 300 * 16 + 4 * 16 * 16 + 3 * 16 * 24 + 3 * 16);
    expect(plan.activeParameters).toBe(plan.parameters);
    expect(plan.stages.map(({ steps }: { steps: number }) => steps)).toEqual([6, 4]);
    expect(plan.memoryBytes).toBeGreaterThan(16 * plan.parameters);
    expect(plan.stages[0].learningRates[0]).toEqual({ step: 1, learningRate: 0.005 });
    expect(plan.backend.name).toBe(backend);
    expect(plan.seconds).toBeGreaterThan(0);
    expect(readdirSync(base).sort()).toEqual(files);
  });

  test.each([
    [['--gpus', '3'], 3],
    [['--gpus', '16'], 16],
    [['--gpus', '8', '--nodes', '2'], 16],
  ])('refuses sums in order on GPUs that cannot make them: %j', async (gpus, count) => {
    const args = [`output=${join(base, 'planned')}`, '--backend', 'auto', ...gpus, '--plan'];
    expect(await runHere([...args, 'parallel.orderedSums=true'])).toEqual({
      code: 1,
      stdout: '',
      stderr: `parallel.orderedSums is for 1, 2, 4 or 8 GPUs, and this run is on ${count} GPUs: leave it out.\n`,
    });
    expect(await runHere(args)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(`\ngpus +${count}: each sends`),
    });
  });

  test('takes them on 8', async () => {
    const args = [`output=${join(base, 'planned')}`, '--backend', 'auto', '--gpus', '8', '--plan'];
    expect(await runHere([...args, 'parallel.orderedSums=true'])).toMatchObject({ code: 0, stderr: '' });
  });

  test.each([
    ['350m', 367_526_912, 367_526_912],
    ['1b', 1_208_083_968, 1_208_083_968],
    ['3b', 3_513_473_280, 3_513_473_280],
    ['1b-16k', 1_208_083_968, 1_208_083_968],
    ['moe-6.5b', 6_371_194_368, 1_086_371_328],
    ['moe-28.6b', 28_063_817_728, 5_414_576_128],
  ])('configs/%s.yaml has the parameters of the paper’s tables 1 and 5', async (name, parameters, active) => {
    const file = fileURLToPath(new URL(`../../../configs/${name}.yaml`, import.meta.url));
    const { code, stdout } = await runHere(['--config', file, '--plan', '--json']);
    expect(code).toBe(3); // neither tokenizer nor text is there
    const plan = JSON.parse(stdout);
    // Too large to be measured here.
    expect(plan).toMatchObject({ parameters, activeParameters: active, seconds: null });
    expect(loadRunConfig(name)).toEqual(loadRunConfig(file));
  });
});
