/** Checkpoints that are not as they were saved: each command refuses them alike, and says what would work. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import {
  CHECKSUMS_FILE,
  checksumsOf,
  LlamaModel,
  MODEL_FILE,
  OPTIMIZER_FILE,
  readSafetensors,
  writeSafetensors,
} from '@stickbreaking/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeToRead } from './checkpoint.js';
import { readMetrics } from './metrics.js';
import { type Ended, runHere } from './run_here.fixture.js';

const base = mkdtempSync(join(tmpdir(), 'damaged-'));
const configFile = join(base, 'run.yaml');
const texts = Array.from({ length: 40 }, (_, i) => `Line ${i} of a text has ${i * i} words, or so they say.`);

beforeAll(async () => {
  await selectBackend('cpu');
  writeFileSync(join(base, 'text.txt'), texts.join('\n'));
  await trainTokenizer({
    sources: [{ path: join(base, 'text.txt') }],
    vocabSize: 280,
    output: join(base, 'tokenizer.json'),
  });
  writeFileSync(
    configFile,
    `output: ${join(base, 'whole')}
tokenizer: ${join(base, 'tokenizer.json')}
batchTokens: 32
microBatchTokens: 32
model: { vocabSize: 280, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 2, contextLength: 32 }
stages: [{ steps: 3, schedule: { kind: constant, peak: 0.01 }, data: [{ path: ${join(base, 'text.txt')} }] }]
checkpoints: { everySteps: 1, keepLast: 3 }
`,
  );
  expect((await run()).code).toBe(0);
});
afterAll(() => rmSync(base, { recursive: true }));

/** sb-train of the run. */
const run = (...args: string[]): Promise<Ended> => runHere(['--config', configFile, '--backend', 'cpu', ...args]);

type Damage = (checkpoint: string) => void;
const cut =
  (name: string): Damage =>
  (checkpoint) =>
    truncateSync(join(checkpoint, name), readFileSync(join(checkpoint, name)).length - 5);
const flip =
  (name: string): Damage =>
  (checkpoint) => {
    const bytes = readFileSync(join(checkpoint, name));
    bytes[bytes.length - 5] = bytes[bytes.length - 5]! ^ 1;
    writeFileSync(join(checkpoint, name), bytes);
  };
const lose =
  (name: string): Damage =>
  (checkpoint) =>
    rmSync(join(checkpoint, name));
const emptied: Damage = (checkpoint) => {
  rmSync(checkpoint, { recursive: true });
  mkdirSync(checkpoint);
};
const asFile: Damage = (checkpoint) => {
  rmSync(checkpoint, { recursive: true });
  writeFileSync(checkpoint, '');
};
const asDirectory =
  (name: string): Damage =>
  (checkpoint) => {
    rmSync(join(checkpoint, name));
    mkdirSync(join(checkpoint, name));
  };
/** Its norm's weights, or their moments, are no numbers. */
const notFinite =
  (name: string): Damage =>
  (checkpoint) => {
    const file = readSafetensors(join(checkpoint, name));
    const tensors = file.names.map((one) => {
      const values = file.read(one);
      if (one.endsWith('model.norm.weight')) values.fill(Number.NaN);
      return { name: one, shape: file.shape(one), values: () => values };
    });
    file.close();
    writeSafetensors(join(checkpoint, name), tensors);
  };
/** Another model than that of the weights and the state. */
const narrower: Damage = (checkpoint) => {
  const file = join(checkpoint, 'config.json');
  const text = readFileSync(file, 'utf8');
  const changed = text.replaceAll(/("intermediate_?[sS]ize": )8/g, '$17');
  expect(changed).not.toBe(text);
  writeFileSync(file, changed);
};

let runs = 0;
/** A copy of the run, its checkpoints damaged from the newest on. */
function damaged(...damages: (Damage | undefined)[]): { output: string; steps: string[] } {
  const output = join(base, `run-${runs++}`);
  cpSync(join(base, 'whole'), output, { recursive: true });
  const store = storeToRead(output);
  const steps = [3, 2, 1].map((step) => store.path(step));
  for (const [i, damage] of damages.entries()) damage?.(steps[i]!);
  return { output, steps };
}

/** What both a run and a plan of it say, which must be the same. */
async function resuming(output: string, ...args: string[]): Promise<string> {
  const [ran, planned] = [
    await run('--resume', `output=${output}`, ...args),
    await run('--resume', '--plan', `output=${output}`, ...args),
  ];
  expect([ran.code, planned.code]).toEqual([EXIT.refused, EXIT.refused]);
  expect(planned.stderr).toBe(ran.stderr);
  expect(ran.stderr).toMatch(/^[^\n]*\n$/);
  expect(planned.stdout).toBe('');
  return ran.stderr.trim();
}

describe('a run is not resumed, nor planned to be,', () => {
  it.each([
    ['model.safetensors', cut('model.safetensors'), false],
    ['optimizer.safetensors', cut('optimizer.safetensors'), false],
    ['state.json', cut('state.json'), false],
    ['config.json', cut('config.json'), false],
    ['tokenizer.json', cut('tokenizer.json'), true],
    ['model.safetensors', flip('model.safetensors'), true],
    ['optimizer.safetensors', flip('optimizer.safetensors'), true],
    ['model.safetensors', lose('model.safetensors'), false],
    ['optimizer.safetensors', lose('optimizer.safetensors'), false],
    ['state.json', lose('state.json'), false],
    ['config.json', lose('config.json'), false],
    [CHECKSUMS_FILE, lose(CHECKSUMS_FILE), true],
    [CHECKSUMS_FILE, cut(CHECKSUMS_FILE), true],
  ])('from a damaged %s: the older one is named, and --no-verify where that helps', async (name, damage, helps) => {
    const { output, steps } = damaged(damage);
    const [newest, older] = steps;
    const told = await resuming(output);
    const after = `; ${older} is good: delete ${newest} to go on from there${helps ? ', or pass --no-verify to use the damaged one as it is' : ''}.`;
    expect(told).toContain(join(newest!, name));
    expect(told.slice(-after.length)).toBe(after);
    const { code, stderr } = await run('--resume', '--no-verify', `output=${output}`);
    expect(code, stderr).toBe(helps ? 0 : EXIT.refused);
    if (!helps) expect(stderr).toContain(`; ${older} is good: delete ${newest} to go on from there.\n`);
    if (helps) return;
    expect(await resuming(output, '--no-verify')).toBe(stderr.trim());
    rmSync(newest!, { recursive: true });
    expect((await run('--resume', `output=${output}`)).code).toBe(0);
  });

  it('from several damaged ones: all that stand in the way are named', async () => {
    const { output, steps } = damaged(cut('model.safetensors'), flip('optimizer.safetensors'));
    const [newest, second, oldest] = steps;
    expect(await resuming(output)).toContain(
      `; ${oldest} is good: delete ${second} and ${newest} to go on from there.`,
    );
    for (const one of [newest, second]) rmSync(one!, { recursive: true });
    expect((await run('--resume', `output=${output}`)).code).toBe(0);
  });

  it('where none is good, with advice that works', async () => {
    const all = damaged(cut('model.safetensors'), cut('optimizer.safetensors'), lose('state.json'));
    const none = (output: string) =>
      `no other checkpoint of the run is good: move ${join(output, 'checkpoints')} away, and the run begins anew`;
    expect(await resuming(all.output)).toMatch(new RegExp(`was saved with \\d+; ${none(all.output)}\\.$`));
    renameSync(join(all.output, 'checkpoints'), join(all.output, 'away'));
    expect((await run('--resume', `output=${all.output}`)).code).toBe(0);
    const losses = (output: string) =>
      readMetrics(join(output, 'metrics.jsonl')).map((line) => 'loss' in line && [line.step, line.loss]);
    expect(losses(all.output)).toEqual(losses(join(base, 'whole')));
    const flipped = damaged(flip('model.safetensors'), cut('optimizer.safetensors'), lose('state.json'));
    expect(await resuming(flipped.output)).toMatch(
      new RegExp(`; ${none(flipped.output)}, or pass --no-verify to use the damaged one as it is\\.$`),
    );
    const ledBy = await resuming(flipped.output, '--no-advise-no-verify'); // as by a command that has no such option
    expect(ledBy).toMatch(new RegExp(`; ${none(flipped.output)}\\.$`));
    expect((await run('--resume', '--no-verify', `output=${flipped.output}`)).code).toBe(0);
  });

  it('where all are gone, and something points to one still', async () => {
    const { output, steps } = damaged(cut(MODEL_FILE));
    for (const one of steps) rmSync(one!, { recursive: true });
    const metrics = readFileSync(join(output, 'metrics.jsonl'));
    const checkpoints = join(output, 'checkpoints');
    const fault = `${join(checkpoints, 'latest')} names step-00000003, which is not there any more; the run has no checkpoint`;
    expect(await resuming(output)).toBe(`${fault}; move ${checkpoints} away, and the run begins anew.`);
    expect(readFileSync(join(output, 'metrics.jsonl'))).toEqual(metrics);
    renameSync(checkpoints, join(output, 'away'));
    expect((await run('--resume', `output=${output}`)).code).toBe(0);
  });

  it.each([
    ['weights', MODEL_FILE, "the weights 'model.norm.weight'"],
    ['moments', OPTIMIZER_FILE, "the optimizer's moments 'firstMoment.model.norm.weight'"],
  ])('from %s that are not finite, whether or not they are verified', async (_, name, what) => {
    const saved = damaged(notFinite(name), notFinite(name)); // with checksums that fit
    for (const one of saved.steps.slice(0, 2)) writeFileSync(join(one!, CHECKSUMS_FILE), await checksumsOf(one!));
    const changed = damaged(notFinite(name), notFinite(name));
    const metrics = readFileSync(join(saved.output, 'metrics.jsonl'));
    const after = ({ steps: [newest, second, oldest] }: typeof saved) =>
      `; ${oldest} is good: delete ${second} and ${newest} to go on from there.`;
    const fault = `${saved.steps[0]}: ${what} are not finite, so nothing can be computed from them`;
    expect(await resuming(saved.output)).toBe(`${fault}${after(saved)}`);
    expect(await resuming(saved.output, '--no-verify')).toBe(`${fault}${after(saved)}`);
    const told = await resuming(changed.output);
    expect(told).toContain(`${name} is damaged`);
    expect(told.slice(-after(changed).length)).toBe(after(changed));
    expect(readFileSync(join(saved.output, 'metrics.jsonl'))).toEqual(metrics);
  });

  it.each<[string, Damage, boolean]>([
    ['is empty', emptied, false],
    ['is a file', asFile, false],
    ['has a directory for a list of checksums', asDirectory(CHECKSUMS_FILE), true],
    ['has a directory for its weights', asDirectory(MODEL_FILE), false],
    ['has a directory for its state', asDirectory('state.json'), false],
  ])('from one that %s', async (_, damage, helps) => {
    const { output, steps } = damaged(damage);
    const after = `; ${steps[1]} is good: delete ${steps[0]} to go on from there${helps ? ', or pass --no-verify to use the damaged one as it is' : ''}.`;
    expect((await resuming(output)).slice(-after.length)).toBe(after);
  });

  it('from a config.json of another model', async () => {
    const { output, steps } = damaged(narrower);
    const told = await resuming(output, '--no-verify');
    expect(told).toContain('model.intermediateSize is 8 in state.json and 7 in config.json; put config.json back');
    expect(told).toContain(`; ${steps[1]} is good: delete ${steps[0]} to go on from there.`);
  });
});

describe('a run does not start, nor is planned to,', () => {
  const starting = async (from: string, ...args: string[]) => {
    const options = [`output=${join(base, 'anew')}`, `startFrom=${from}`, ...args];
    const [planned, ran] = [await run(...options, '--plan'), await run(...options)];
    expect([ran.code, planned.code]).toEqual([EXIT.refused, EXIT.refused]);
    expect(planned.stderr).toBe(ran.stderr);
    expect(ran.stderr).toMatch(/^[^\n]*\n$/);
    return ran.stderr.trim();
  };

  it.each([
    ['cut weights', cut('model.safetensors'), false],
    ['a flipped bit', flip('model.safetensors'), true],
    ['a lost configuration', lose('config.json'), false],
    ['a cut configuration', cut('config.json'), false],
    ['weights of another configuration', narrower, false],
    ['a lost tokenizer', lose('tokenizer.json'), true],
    ['a cut tokenizer', cut('tokenizer.json'), false],
  ])('from a checkpoint with %s: an older one is named', async (_, damage, helps) => {
    const { output, steps } = damaged(damage, flip('optimizer.safetensors')); // what a model is loaded from is whole
    const told = await starting(output);
    const after = `; ${steps[1]} is good: take that one${helps ? ', or pass --no-verify to use the damaged one as it is' : ''}.`;
    expect(told.slice(-after.length)).toBe(after);
    if (!helps) expect(await starting(output, '--no-verify')).toContain(`; ${steps[1]} is good: take that one.`);
    const { code, stderr } = await run(`output=${join(output, 'next')}`, `startFrom=${steps[1]}`);
    expect(code, stderr).toBe(0);
  });

  it('from weights that are not finite', async () => {
    const { output, steps } = damaged();
    for (const one of steps.slice(0, 2)) {
      const model = LlamaModel.load(one!);
      const weight = model.parameters.get('model.norm.weight')!;
      weight.assign(weight.mul(Number.NaN));
      model.save(one!);
      model.dispose();
    }
    const { code, stderr } = await run(`output=${join(base, 'anew')}`, `startFrom=${output}`, '--no-verify');
    expect(code).toBe(EXIT.refused);
    expect(stderr).toContain(
      `'model.norm.weight' are not finite, so nothing can be computed from them; ${steps[2]} is good`,
    );
  });
});

it('a plan says whether it compared checksums', async () => {
  const { output, steps } = damaged(flip('model.safetensors'));
  const plan = async (...args: string[]) => (await run('--plan', ...args)).stdout;
  expect(await plan('--resume', `output=${output}`, '--no-verify')).toContain(
    `goes on from ${steps[0]} (its checksums were not compared)\n`,
  );
  expect(await plan('--resume', `output=${join(base, 'whole')}`)).toMatch(/goes on from \S+step-00000003\n/);
  const { resumesFrom, checkpointVerified } = JSON.parse(await plan('--json', '--resume'));
  expect([resumesFrom, checkpointVerified]).toEqual([storeToRead(join(base, 'whole')).latest(), true]);
  const started = JSON.parse(await plan('--json', `output=${join(base, 'anew')}`, `startFrom=${steps[1]}`));
  expect([started.startsFrom, started.checkpointVerified]).toEqual([steps[1], true]);
  expect(JSON.parse(await plan('--json', `output=${join(base, 'anew')}`)).checkpointVerified).toBe(null);
});
