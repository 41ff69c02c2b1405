// A run that scores tasks as it goes: the training loop with a scorer of the test's, and sb-train with eval's.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from './cli.js';
import { openEvaluation } from './evaluation.js';
import { readMetrics, type TaskScore } from './metrics.js';
import { loadRunConfig } from './run_config.js';
import type { TrainOptions } from './train_options.js';
import { train } from './trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-evaluation-'));
const at = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const score = (value: number): TaskScore => ({
  task: 'counting',
  metric: 'acc',
  filter: 'none',
  value,
  standardError: null,
});

const options = (name: string, rest: Partial<TrainOptions> = {}): TrainOptions => ({
  model: { vocabSize: 20, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 16 },
  stages: [
    {
      ...{
        schedule: { kind: 'constant', peak: 0.01 },
        steps: 5,
        contextLength: 16,
        batchTokens: 32,
        microBatchTokens: 32,
      },
      data: {
        open: (_, cursor: { n: number } = { n: 0 }) => {
          let { n } = cursor;
          const next = () => {
            const all = Array.from({ length: 33 }, (_, i) => (n + i) % 20);
            n++;
            return { tokens: all.slice(0, 32), targets: all.slice(1), cuSeqlens: [0, 16, 32] };
          };
          return { next, cursor: () => ({ n }) };
        },
      },
    },
  ],
  directory: at(name),
  ...rest,
});

const scoresIn = (name: string) =>
  readMetrics(join(at(name), 'metrics.jsonl')).flatMap((line) =>
    'scores' in line ? [[line.step, line.scores[0]!.value]] : [],
  );
const lossesIn = (name: string) =>
  readMetrics(join(at(name), 'metrics.jsonl')).flatMap((line) => ('loss' in line ? [line.loss] : []));

describe('train', () => {
  beforeAll(() => selectBackend('cpu'));

  it('scores every so many steps and at the end, and learns as it would without', async () => {
    let asked = 0;
    const told: number[] = [];
    const evaluation = { everySteps: 2, scores: async () => [score(++asked / 10)] };
    const hooks = { onEvaluation: ({ step }: { step: number }) => void told.push(step) };
    await train(options('scored', { evaluation, hooks }));
    await train(options('plain'));
    expect(scoresIn('scored')).toEqual([
      [2, 0.1],
      [4, 0.2],
      [5, 0.3],
    ]);
    expect(told).toEqual([2, 4, 5]);
    expect(lossesIn('scored')).toEqual(lossesIn('plain'));
  });

  it('stops in the middle of an evaluation, saves, and goes on', async () => {
    const stop = new AbortController();
    const notices: string[] = [];
    const evaluation = {
      everySteps: 2,
      scores: async (_: unknown, { signal }: { signal?: AbortSignal | undefined }) => {
        stop.abort();
        signal?.throwIfAborted();
        return [score(0.5)];
      },
    };
    const hooks = { onNotice: (line: string) => void notices.push(line) };
    const stopped = await train(options('stopped', { evaluation, hooks, signal: stop.signal }));
    expect([stopped.finished, stopped.state.step, existsSync(stopped.checkpoint!)]).toEqual([false, 2, true]);
    expect(notices).toContain('the evaluation of step 2 was stopped, and is not in the metrics');
    const resumed = await train(
      options('stopped', { resume: true, evaluation: { ...evaluation, scores: async () => [score(1)] } }),
    );
    expect(resumed.finished).toBe(true);
    expect(scoresIn('stopped')).toEqual([
      [4, 1],
      [5, 1],
    ]);
  });

  it('passes on what goes wrong in an evaluation', async () => {
    const evaluation = { everySteps: 2, scores: () => Promise.reject(new Error('no such choice')) };
    await expect(train(options('wrong', { evaluation }))).rejects.toThrow('no such choice');
  });
});

describe('sb-train', () => {
  const bin = fileURLToPath(new URL('../bin/sb-train.js', import.meta.url));
  const file = at('run.yaml');

  beforeAll(async () => {
    const things = ['stone', 'river', 'cloud', 'candle', 'garden', 'engine'];
    writeFileSync(
      at('text.txt'),
      things.map((thing) => `What is a ${thing} made of? Of earth, water or air.`).join('\n\n'),
    );
    await trainTokenizer({ sources: [{ path: at('text.txt') }], vocabSize: 280, output: at('tokenizer.json') });
    const rows = things.map((thing, i) => ({
      ...{ id: `${i}`, question: `What is a ${thing} made of?`, answerKey: 'ABC'[i % 3] },
      choices: { text: ['earth', 'water or air', 'air'], label: ['A', 'B', 'C'] },
    }));
    mkdirSync(at('data/allenai/ai2_arc/ARC-Easy'), { recursive: true });
    writeFileSync(
      at('data/allenai/ai2_arc/ARC-Easy/test.jsonl'),
      rows.map((row) => `${JSON.stringify(row)}\n`).join(''),
    );
    writeFileSync(
      file,
      `output: ${at('run')}
tokenizer: ${at('tokenizer.json')}
batchTokens: 64
microBatchTokens: 64
model: { vocabSize: 280, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 32 }
stages: [{ steps: 4, schedule: { kind: constant, peak: 0.01 }, data: [{ path: ${at('text.txt')} }] }]
evaluation: { tasks: [arc_easy], dataDir: ${at('data')}, limit: 5, everySteps: 2 }
`,
    );
  });

  it('writes the scores into the metrics and says them', () => {
    const { status, stderr } = spawnSync(process.execPath, [bin, '--config', file, '--backend', 'native'], {
      encoding: 'utf8',
    });
    expect(
      [status, stderr.match(/step 2: arc_easy acc 0\.\d{4} ± 0\.\d{4}, arc_easy acc_norm 0\.\d{4}/) !== null],
      stderr,
    ).toEqual([0, true]);
    const lines = readMetrics(join(at('run'), 'metrics.jsonl')).flatMap((line) => ('scores' in line ? [line] : []));
    expect(lines.map(({ step }) => step)).toEqual([2, 4]);
    for (const { scores } of lines) {
      expect(scores.map(({ task, metric }) => `${task} ${metric}`)).toEqual(['arc_easy acc', 'arc_easy acc_norm']);
      for (const { value } of scores) expect([0, 0.2, 0.4, 0.6, 0.8, 1]).toContain(value);
    }
  });

  it('says before the first step what is missing', () => {
    const given = ['--config', file, '--backend', 'native', `output=${at('none')}`];
    const run = (...more: string[]) => spawnSync(process.execPath, [bin, ...given, ...more], { encoding: 'utf8' });
    const unknown = run('evaluation.tasks=arc_eazy');
    expect(unknown.stderr).toBe(
      "no task or group is called 'arc_eazy' (did you mean 'arc_easy'?); `sb-eval tasks` lists them.\n",
    );
    const missing = run('evaluation.tasks=sciq');
    expect(missing.stderr).toMatch(/^sciq: the split 'test' of allenai\/sciq is not under /);
    expect([unknown.status === 0, missing.status === 0, existsSync(at('none'))]).toEqual([false, false, false]);
    const plan = run('evaluation.tasks=sciq', '--plan', '--json');
    expect(JSON.parse(plan.stdout).missing).toEqual([
      expect.stringMatching(/^sciq: the split 'test' of allenai\/sciq is not under /),
    ]);
    expect(plan.status).not.toBe(0);
    const nowhere = run(`evaluation.dataDir=${at('nowhere')}`, '--plan', '--json');
    expect(JSON.parse(nowhere.stdout).missing).toEqual([
      expect.stringMatching(/^--data-dir: there is no directory .*nowhere\.$/),
    ]);
    expect(JSON.parse(run('--plan', '--json').stdout).missing).toEqual([]);
  });

  it('names the package where nothing scores tasks', async () => {
    const config = loadRunConfig(file);
    await expect(openEvaluation(config, undefined as never, undefined, undefined)).rejects.toThrow(
      'evaluation: tasks are scored by the package @stickbreaking/eval, which is not installed here; install stickbreaking',
    );
    expect(await openEvaluation({ ...config, evaluation: undefined }, undefined as never, undefined, undefined)).toBe(
      undefined,
    );
    expect(await main(['--config', file, '--backend', 'native', `output=${at('unwired')}`])).not.toBe(0);
    expect(existsSync(at('unwired'))).toBe(false);
  });
});
