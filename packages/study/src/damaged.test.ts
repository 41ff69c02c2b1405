/** A damaged checkpoint in a study: what is advised costs the arm that it is of, and no other. */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { expect, it } from 'vitest';
import { folder, resultsOf, run, sizes, studyFile, text, training } from './tiny_studies.fixture.js';

/** Changes a bit of the weights that an arm saved. @returns its checkpoints' folder, and the arm's own */
function damage(study: string, arm: string): { checkpoints: string; own: string } {
  const arms = join(folder, study, 'arms');
  const name = readdirSync(arms).find((one) => one.startsWith(arm) && !one.includes('lr-1e-2'))!;
  const checkpoints = join(arms, name, 'run/checkpoints');
  const [step] = readdirSync(checkpoints).filter((one) => one.startsWith('step-'));
  const file = join(checkpoints, step!, 'model.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 8] = bytes[bytes.length - 8]! ^ 1;
  writeFileSync(file, bytes);
  return { checkpoints, own: join(arms, name) };
}

const losses = (study: string) =>
  resultsOf(study).arms.map(({ id, result }: { id: string; result: { losses: unknown } }) => [id, result.losses]);

it('an arm’s own is moved away, and the arm begins anew, here or in a process of its own', async () => {
  const task = { sequenceLength: 12, variables: 4, values: 4 };
  const steps = { steps: 4, sequences: 2, warmupSteps: 1, checkEvery: 2, checkSequences: 4, testSequences: 4 };
  const args = studyFile('own', {
    study: 'mqrar',
    ...{ task, pairs: [2], learningRates: [0.001], model: { ...sizes, numHeads: 1 }, training: steps },
    arms: [
      { name: 'stick-breaking', attention: 'stick-breaking' },
      { name: 'softmax+RoPE', attention: 'softmax+rope' },
    ],
  });
  expect((await run(...args)).code).toBe(0);
  const before = losses('own');
  const { checkpoints, own } = damage('own', 'stick-breaking');
  rmSync(join(own, 'result.json'));
  for (const more of [[], ['--jobs', '2']]) {
    const { code, said } = await run(...args, ...more);
    expect(said.trim().split('\n').at(-1)).toMatch(
      /model\.safetensors is damaged: .*; no other checkpoint of the run /,
    );
    expect(said.trim()).toMatch(new RegExp(`is good: move ${checkpoints} away, and the run begins anew\\.$`));
    expect(code).toBe(EXIT.refused);
  }
  renameSync(checkpoints, join(folder, 'own-away'));
  const { code, said } = await run(...args);
  expect(code).toBe(0);
  expect(said).toContain('1 of 2 arms are done already');
  expect(losses('own')).toEqual(before);
});

it('another arm’s, whose model is gone on with, is made again', async () => {
  const args = studyFile('others', {
    study: 'context-extension',
    ...{ text, model: sizes, training, evaluation: { times: 2, tokens: 64 } },
    extension: { factor: 2, steps: 3, batchTokens: 64, warmupSteps: 1 },
    arms: [{ name: 'stick-breaking', attention: 'stick-breaking' }],
  });
  expect((await run(...args)).code).toBe(0);
  const before = losses('others');
  const { own } = damage('others', 'stick-breaking-before');
  rmSync(join(folder, 'others/arms', readdirSync(join(folder, 'others/arms')).find((one) => one.includes('after'))!), {
    recursive: true,
  });
  const refused = await run(...args);
  expect(refused.said.trim()).toMatch(new RegExp(`is damaged: .*\\); move ${own} away, and that arm is run again\\.$`));
  expect(refused.code).toBe(EXIT.refused);
  renameSync(own, join(folder, 'others-moved'));
  expect((await run(...args)).code).toBe(0);
  expect(losses('others')).toEqual(before);
});

it('another arm’s, whose model is only looked at, is refused as well', async () => {
  const scaled = { kind: 'softmax', position: { kind: 'rope', scaling: { kind: 'dynamic', factor: 2 } } };
  const args = studyFile('scaled', {
    study: 'length-extrapolation',
    ...{ text, model: sizes, training, evaluation: { times: 2, tokens: 64 } },
    arms: [
      { name: 'RoPE', attention: 'softmax+rope' },
      { name: 'scaled', attention: scaled, of: 'RoPE' },
    ],
  });
  expect((await run(...args)).code).toBe(0);
  const { own, checkpoints } = damage('scaled', 'RoPE');
  rmSync(
    join(folder, 'scaled/arms', readdirSync(join(folder, 'scaled/arms')).find((one) => one.startsWith('scaled'))!),
    {
      recursive: true,
    },
  );
  const refused = await run(...args);
  expect(refused.said.trim()).toMatch(new RegExp(`is damaged: .*; move ${own} away, and that arm is run again\\.$`));
  expect(refused.code).toBe(EXIT.refused);
  rmSync(checkpoints, { recursive: true });
  const gone = await run(...args);
  expect(gone.said.trim()).toMatch(new RegExp(`; move ${own} away, and that arm is run again\\.$`));
  expect(gone.code).toBe(EXIT.refused);
});
