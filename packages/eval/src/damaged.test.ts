/** A run's checkpoint that is not as it was saved: every command that opens one refuses it and names another that is good. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { CHECKSUMS_FILE, checksumsOf, LlamaModel } from '@stickbreaking/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from './checkpoint.js';
import { main as evaluate } from './cli.js';
import { main as generate } from './generate_cli.js';
import { runHere as run } from './run_here.fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'damaged-'));
const text = join(folder, 'text.txt');

beforeAll(async () => {
  await selectBackend('cpu');
  writeFileSync(text, Array.from({ length: 24 }, (_, i) => `Line ${i} of a text has ${i * i} words.`).join('\n'));
  await trainTokenizer({ sources: [{ path: text }], vocabSize: 280, output: join(folder, 'tokenizer.json') });
  for (const step of [1, 2, 3]) {
    const directory = join(folder, 'whole/checkpoints', `step-0000000${step}`);
    mkdirSync(directory, { recursive: true });
    const sizes = { vocabSize: 280, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 2, contextLength: 16 };
    const model = LlamaModel.create(sizes, { seed: step });
    model.save(directory);
    model.dispose();
    cpSync(join(folder, 'tokenizer.json'), join(directory, 'tokenizer.json'));
    writeFileSync(join(directory, CHECKSUMS_FILE), await checksumsOf(directory));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

type Damage = (checkpoint: string) => void;
const cut =
  (name: string): Damage =>
  (checkpoint) =>
    truncateSync(join(checkpoint, name), readFileSync(join(checkpoint, name)).length - 5);
const flip: Damage = (checkpoint) => {
  const file = join(checkpoint, 'model.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 5] = bytes[bytes.length - 5]! ^ 1;
  writeFileSync(file, bytes);
};
const lose =
  (name: string): Damage =>
  (checkpoint) =>
    rmSync(join(checkpoint, name));
const asDirectory =
  (name: string): Damage =>
  (checkpoint) => {
    rmSync(join(checkpoint, name));
    mkdirSync(join(checkpoint, name));
  };
const emptied: Damage = (checkpoint) => {
  rmSync(checkpoint, { recursive: true });
  mkdirSync(checkpoint);
};
const asFile: Damage = (checkpoint) => {
  rmSync(checkpoint, { recursive: true });
  writeFileSync(checkpoint, '');
};
const narrower: Damage = (checkpoint) => {
  const file = join(checkpoint, 'config.json');
  const changed = readFileSync(file, 'utf8').replaceAll(/("intermediate_?[sS]ize": )8/g, '$17');
  writeFileSync(file, changed);
};
const notFinite: Damage = (checkpoint) => {
  const model = LlamaModel.load(checkpoint);
  const weight = model.parameters.get('model.norm.weight')!;
  weight.assign(weight.mul(Number.NaN));
  model.save(checkpoint); // without checksums, which it would fit
  model.dispose();
};

let runs = 0;
/** A copy of the run, whose checkpoints are damaged from the newest on. */
function damaged(...damages: Damage[]) {
  const directory = join(folder, `run-${runs++}`);
  cpSync(join(folder, 'whole'), directory, { recursive: true });
  const steps = [3, 2, 1].map((step) => join(directory, 'checkpoints', `step-0000000${step}`));
  for (const [i, damage] of damages.entries()) damage(steps[i]!);
  return { directory, steps };
}

/** What both commands say of it, which is the same. */
async function refusedBy(checkpoint: string, ...more: string[]): Promise<string> {
  const options = ['--backend', 'cpu', '--checkpoint', checkpoint, ...more];
  const ended = [
    await run(evaluate, ...options, '--data', text, '--lengths', '8'),
    await run(evaluate, ...options, '--attention', '--text', 'Line', '--output', join(folder, 'drawn.html')),
    await run(generate, ...options, '--prompt', 'Line', '--max-new-tokens', '2'),
  ];
  for (const { code, stdout, stderr } of ended) {
    expect([code, stdout], stderr).toEqual([EXIT.refused, '']);
    expect(stderr).toBe(ended[0]!.stderr);
    expect(stderr).toMatch(/^[^\n]*\n$/);
  }
  return ended[0]!.stderr.trim();
}

describe('a run whose newest checkpoint', () => {
  it.each([
    ['has cut weights', cut('model.safetensors'), false],
    ['has another bit', flip, true],
    ['has lost its weights', lose('model.safetensors'), false],
    ['has lost its configuration', lose('config.json'), false],
    ['has a cut configuration', cut('config.json'), false],
    ['has a cut tokenizer', cut('tokenizer.json'), false],
    ['has weights of another configuration', narrower, false],
    ['has a list of checksums that is none', cut(CHECKSUMS_FILE), true],
    ['has a directory for a list of checksums', asDirectory(CHECKSUMS_FILE), true],
    ['has a directory for its weights', asDirectory('model.safetensors'), false],
    ['is empty', emptied, false],
    ['is a file', asFile, false],
  ])('%s is refused alike by all, and the older one named', async (_, damage, helps) => {
    const { directory, steps } = damaged(damage);
    const told = await refusedBy(directory);
    const after = `; ${steps[1]} is good: take that one${helps ? ', or pass --no-verify to use the damaged one as it is' : ''}.`;
    expect(told.slice(-after.length)).toBe(after);
    expect(
      await run(generate, '--backend', 'cpu', '--checkpoint', steps[1]!, '--prompt', 'a', '--max-new-tokens', '1'),
    ).toMatchObject({ code: 0 });
    if (!helps) expect(await refusedBy(directory, '--no-verify')).toContain(`; ${steps[1]} is good: take that one.`);
    else
      expect(
        await run(
          generate,
          '--backend',
          'cpu',
          '--checkpoint',
          directory,
          '--no-verify',
          '--prompt',
          'a',
          '--max-new-tokens',
          '1',
        ),
      ).toMatchObject({ code: 0 });
  });

  it('is damaged, and the one before it too, has the one before that named', async () => {
    const { directory, steps } = damaged(cut('model.safetensors'), flip);
    expect(await refusedBy(directory)).toContain(`; ${steps[2]} is good: take that one.`);
    // Another than the newest: a newer one where there is no older one.
    cut('model.safetensors')(steps[2]!);
    cpSync(join(folder, 'whole/checkpoints/step-00000003'), steps[0]!, { recursive: true });
    expect(await refusedBy(steps[2]!)).toContain(`; ${steps[0]} is good: take that one.`);
  });

  it('and all others are damaged, has none named', async () => {
    const { directory } = damaged(cut('model.safetensors'), flip, lose('config.json'));
    expect(await refusedBy(directory)).toMatch(
      / bytes, and was saved with \d+; no other checkpoint of the run is good\.$/,
    );
  });

  it('is not finite, has the newest named that is', async () => {
    const { directory, steps } = damaged(notFinite, notFinite);
    expect(await refusedBy(directory)).toContain(
      `'model.norm.weight' are not finite, so nothing can be computed from them; ${steps[2]} is good: take that one.`,
    );
  });

  it('has no checksums, is followed by one that has none either', async () => {
    const { directory, steps } = damaged(cut('model.safetensors'), lose(CHECKSUMS_FILE));
    expect(await refusedBy(directory)).toContain(`; ${steps[1]} can be read: take that one.`);
  });
});

it('a checkpoint that is named from within has another named', async () => {
  const { steps } = damaged(flip);
  const before = process.cwd();
  process.chdir(steps[0]!);
  try {
    expect(await refusedBy('.')).toContain(`; ${join('..', 'step-00000002')} is good: take that one, or pass`);
  } finally {
    process.chdir(before);
  }
});

it('a checkpoint that is none of a run has none named', async () => {
  const { steps } = damaged(flip);
  const alone = join(folder, 'alone');
  cpSync(steps[0]!, alone, { recursive: true });
  expect(await refusedBy(alone)).toMatch(/expected [0-9a-f]+\); pass --no-verify to use the damaged one as it is\.$/);
  // Who cannot choose is not told to.
  await expect(openCheckpoint(alone)).rejects.toThrow(/expected [0-9a-f]+\)\.$/);
});
