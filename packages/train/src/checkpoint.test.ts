import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { verifyChecksums } from '@stickbreaking/model';
import { beforeEach, describe, expect, it } from 'vitest';
import { CheckpointStore, readState, type TrainingState } from './checkpoint.js';
import { MetricsFile, readMetrics } from './metrics.js';

let directory: string;
let tokenizerPath: string;
beforeEach(() => {
  const base = mkdtempSync(join(tmpdir(), 'checkpoint-'));
  directory = join(base, 'checkpoints');
  tokenizerPath = join(base, 'tokenizer.json');
  writeFileSync(tokenizerPath, '{}');
});

function content(step: number, best: TrainingState['best'] = null) {
  const state: TrainingState = {
    version: 1,
    step,
    updates: step,
    tokens: step * 10,
    stage: 0,
    stageStep: step,
    nonFiniteSteps: 0,
    cursor: null,
    seed: 1,
    best,
    identity: {},
  };
  const tokenizer = { path: tokenizerPath, bosToken: undefined, eosToken: '<end>', eosId: 1 };
  const writeTensors = async (d: string) => {
    writeFileSync(join(d, 'model.safetensors'), `${step}`);
    return new Map();
  };
  return { state, tokenizer, writeTensors };
}

describe('CheckpointStore', () => {
  it('names the file that keeps it from saving: its own directory, or one from elsewhere', async () => {
    const store = new CheckpointStore(directory, { last: 1, best: false });
    rmSync(tokenizerPath);
    const missing = /^cannot write the checkpoint .*step-00000001: cannot .*\/tokenizer\.json: there is no such file/;
    await expect(store.save(content(1))).rejects.toThrow(missing);
    writeFileSync(tokenizerPath, '{}');
    const writeTensors = async (d: string) => {
      writeFileSync(join(d, 'gone/model.safetensors'), '');
      return new Map();
    };
    const own = /^cannot write the checkpoint .*step-00000001: there is no such file or directory \(ENOENT\)\.$/;
    await expect(store.save({ ...content(1), writeTensors })).rejects.toThrow(own);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('keeps the last K and the best, and points at the newest', async () => {
    const store = new CheckpointStore(directory, { last: 2, best: true });
    await store.save(content(1, { step: 1, validationLoss: 2 }));
    for (const step of [2, 3, 4]) await store.save(content(step, { step: 1, validationLoss: 2 }));
    expect(store.steps()).toEqual([1, 3, 4]);
    expect(store.latest()).toBe(join(directory, 'step-00000004'));
    expect(readFileSync(join(directory, 'latest'), 'utf8')).toBe('step-00000004\n');
    expect(readFileSync(join(directory, 'best'), 'utf8')).toBe('step-00000001\n');
    expect(readState(store.path(3)).tokens).toBe(30);
    expect(readdirSync(store.path(4)).sort()).toEqual([
      'checksums.json',
      'model.safetensors',
      'state.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    // What names the tokens that begin and end documents goes along, with the rest of what the file says.
    writeFileSync(join(tokenizerPath, '../tokenizer_config.json'), '{"bos_token": "<s>", "model_max_length": 8}');
    await store.save(content(5));
    expect(JSON.parse(readFileSync(join(store.path(5), 'tokenizer_config.json'), 'utf8'))).toEqual({
      bos_token: null,
      eos_token: '<end>',
      model_max_length: 8,
    });
  });

  it('leaves the previous checkpoint whole when one fails, and says so in one line', async () => {
    const store = new CheckpointStore(directory, { last: 1, best: false });
    await store.save(content(1));
    const failing = {
      ...content(2),
      writeTensors: async (d: string) => {
        writeFileSync(join(d, 'model.safetensors'), 'half');
        throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      },
    };
    await expect(store.save(failing)).rejects.toThrow(
      /^cannot write .*step-00000002 .*step-00000001\): the disk is full/,
    );
    expect(readdirSync(directory).sort()).toEqual(['latest', 'step-00000001']);
    expect(readFileSync(join(store.path(1), 'model.safetensors'), 'utf8')).toBe('1');
  });

  it('takes no half-written directory for a checkpoint, and cleans it up', async () => {
    const store = new CheckpointStore(directory, { last: 2, best: false });
    await store.save(content(1));
    mkdirSync(join(directory, '.writing-step-00000002'));
    mkdirSync(join(directory, '.deleting-step-00000000'));
    writeFileSync(join(directory, 'latest.123-0a1b2c3d.tmp'), '');
    expect(store.steps()).toEqual([1]);
    store.repair();
    expect(readdirSync(directory).sort()).toEqual(['latest', 'step-00000001']);
  });

  it('says in the state that it has checksums, so that they cannot be lost unseen', async () => {
    const store = new CheckpointStore(directory, { last: 2, best: false });
    const [older, path] = [await store.save(content(1)), await store.save(content(2))];
    expect(JSON.parse(readFileSync(join(path, 'state.json'), 'utf8')).checksums).toBe('poly1305');
    expect(readState(path)).toEqual(content(2).state);
    rmSync(join(path, 'checksums.json'));
    const lost = `${path}/checksums.json is missing, which was saved with the checkpoint.`;
    await expect(verifyChecksums(path)).rejects.toThrow(lost);
    expect(await verifyChecksums(older)).toBe(true);
  });

  it('tells a damaged state in one line', async () => {
    const store = new CheckpointStore(directory, { last: 2, best: false });
    const path = await store.save(content(1));
    writeFileSync(join(path, 'state.json'), '{"version": 1, "step": -1}');
    expect(() => readState(path)).toThrow(/state\.json is damaged, key 'step'/);
    writeFileSync(join(path, 'state.json'), '{"ver');
    expect(() => readState(path)).toThrow('not valid JSON');
  });
});

describe('MetricsFile', () => {
  it('drops what lies past the checkpoint, half a line included', () => {
    const path = join(tokenizerPath, '..', 'metrics.jsonl');
    const line = (step: number) => ({ step, tokens: step, validationLoss: 1 / 3 });
    const first = new MetricsFile(path, 0);
    for (const step of [1, 2, 3]) first.append(line(step));
    first.close();
    writeFileSync(path, `${readFileSync(path, 'utf8')}{"step": 4, "to`);
    const second = new MetricsFile(path, 2);
    const written = second.append(line(3));
    second.close();
    const lines = readMetrics(path);
    expect(lines).toMatchObject([1, 2, 3].map(line));
    expect(lines.at(-1)).toEqual(written);
    expect(written.time).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it('counts the time that the run worked, not that for which it was stopped', () => {
    const path = join(tokenizerPath, '..', 'metrics.jsonl');
    const line = (step: number) => ({ step, loss: 1, elapsedSeconds: 1000 * step, time: '2020-01-01T00:00:00.000Z' });
    writeFileSync(path, [1, 2, 3].map((step) => `${JSON.stringify(line(step))}\n`).join(''));
    const file = new MetricsFile(path, 2);
    const { elapsedSeconds } = file.append({ step: 3, tokens: 3, validationLoss: 1 });
    file.close();
    expect(elapsedSeconds).toBeGreaterThanOrEqual(2000);
    expect(elapsedSeconds).toBeLessThan(3000);
  });

  it('removes lines that are none, and says which', () => {
    const path = join(tokenizerPath, '..', 'metrics.jsonl');
    const line = (step: number) => `{"step":${step},"tokens":1,"validationLoss":${step === 2 ? null : 1}}\n`;
    writeFileSync(path, `${line(1)}null\n${line(2)}[]\n"text"\n{"step":"3","loss":1}\n{"step":3}\n\n${line(4)}`);
    expect(readMetrics(path).map(({ step }) => step)).toEqual([1, 2, 4]);
    const said: string[] = [];
    new MetricsFile(path, 4, (notice) => void said.push(notice)).close();
    expect(said).toEqual([
      `${path}: line 2, 4, 5, 6, 7, 8 is not a line of metrics that belongs there and is removed`,
      `${path} lacks the metrics of 4 of 4 steps`,
    ]);
    expect(readFileSync(path, 'utf8')).toBe(line(1) + line(2) + line(4));
  });

  it.each([
    ['a step that is there twice', [1, 2, 2, 3, 4], [1, 2, 3, 4], /: line [23] is not/],
    ['a step far ahead', [1, 2, 300, 3, 4], [1, 2, 3, 4], /: line 3 is not/],
    ['a first step far ahead', [300, 1, 2, 3, 4], [1, 2, 3, 4], /: line 1 is not/],
    ['a step of before', [1, 2, 3, 1, 4], [1, 2, 3, 4], /: line 4 is not/],
    ['a step that is missing', [1, 2, 4], [1, 2, 4], / lacks the metrics of 1 of 4 steps/],
    ['no step', [], [], / lacks the metrics of 4 of 4 steps/],
  ])('tells of %s', (_, steps, kept, message) => {
    const path = join(tokenizerPath, '..', 'metrics.jsonl');
    const line = (step: number) => JSON.stringify({ step, loss: 1, tokensPerSecond: 1 });
    writeFileSync(path, steps.map((step) => `${line(step)}\n`).join(''));
    const said: string[] = [];
    new MetricsFile(path, 4, (notice) => void said.push(notice)).close();
    expect(said).toEqual([expect.stringMatching(message)]);
    expect(readMetrics(path).map(({ step }) => step)).toEqual(kept);
  });
});
