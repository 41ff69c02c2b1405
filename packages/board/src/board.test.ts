import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockOrRefuse } from '@stickbreaking/base/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBoard } from './board.js';
import { findRuns } from './find_runs.js';
import { main as reportMain } from './report_cli.js';
import { appendSteps, makeRun } from './run.fixture.js';
import type { RunDetails, RunMetrics, RunSummary } from './run_data.js';
import { RunReader } from './run_reader.js';
import { Runs } from './runs.js';

const base = mkdtempSync(join(tmpdir(), 'board-'));
const [a, b] = [join(base, 'runs/a'), join(base, 'runs/b')];
beforeAll(() => {
  makeRun(a, { steps: 20, samples: true, evaluation: true });
  makeRun(b, { steps: 10, totalSteps: 40, learningRate: 0.01 });
});
afterAll(() => rmSync(base, { recursive: true }));

describe('findRuns', () => {
  it('finds them below a directory, in the order of their numbers', () => {
    for (const name of ['x/run-10', 'x/run-9', 'x/node_modules/run-1', 'x/.hidden/run-2'])
      mkdirSync(join(base, name, 'checkpoints'), { recursive: true });
    expect(findRuns([join(base, 'x')])).toEqual([join(base, 'x/run-9'), join(base, 'x/run-10')]);
    expect(findRuns([a, join(base, 'runs'), `${a}/`])).toEqual([a, b]);
    expect(() => findRuns([join(base, 'none')])).toThrow('is no directory');
  });
});

describe('RunReader', () => {
  it('tells what state a run is in', () => {
    const [one, other] = [new RunReader(a), new RunReader(b)];
    for (const reader of [one, other]) expect(reader.refresh()).toBe(true);
    expect(one.summary()).toMatchObject({
      ...{ state: 'finished', step: 20, totalSteps: 20, tokens: 2560, totalTokens: 2560 },
      ...{ loss: 2.2, validationLoss: 2.1 + 4 / 20, tokensPerSecond: 256, lines: 22 },
    });
    expect(other.summary()).toMatchObject({ state: 'stopped', step: 10, totalSteps: 40 });
    const release = lockOrRefuse(b, 'trains');
    expect(other.refresh()).toBe(true);
    expect(other.summary().state).toBe('training');
    expect(other.refresh()).toBe(false);
    release();
    expect(other.refresh()).toBe(true);
    expect(other.summary().state).toBe('stopped');
  });

  it('gives metrics in columns, whole or what is new', () => {
    const reader = new RunReader(a);
    reader.refresh();
    const all = reader.metrics();
    expect(Object.keys(all.tables)).toEqual(['steps', 'validation']);
    expect(all.tables.steps).toMatchObject({ step: Array.from({ length: 20 }, (_, i) => i + 1) });
    expect(all.tables.validation).toEqual({
      ...{ step: [10, 20], tokens: [1280, 2560], seconds: [5, 10] },
      values: {
        validationLoss: [2.5, 2.1 + 4 / 20],
        'attention.distance.0': [10, 20],
        'attention.distance.1': [2, 2],
      },
    });
    const { tables, from } = reader.metrics(20, all.generation);
    expect([from, tables.steps?.step, tables.validation?.step]).toEqual([20, [20], [20]]);
    expect(reader.metrics(20, all.generation + 1).from).toBe(0);
  });

  it('reckons the time of runs that did not write it', () => {
    const old = join(base, 'old');
    mkdirSync(old);
    const line = (step: number) => JSON.stringify({ step, tokens: 100 * step, loss: 1, tokensPerSecond: 50 });
    writeFileSync(join(old, 'metrics.jsonl'), [1, 2, 3].map((step) => `${line(step)}\n`).join(''));
    const reader = new RunReader(old);
    reader.refresh();
    expect(reader.metrics().tables.steps!.seconds).toEqual([2, 4, 6]);
    expect(reader.summary()).toMatchObject({ state: 'stopped', totalSteps: undefined, step: 3 });
    const damaged = { step: 4, tokens: 'many', loss: 1, tokensPerSecond: 50, elapsedSeconds: {} };
    appendFileSync(join(old, 'metrics.jsonl'), `${JSON.stringify(damaged)}\n`);
    reader.refresh();
    expect(reader.metrics().tables.steps).toMatchObject({ tokens: [100, 200, 300, 300], seconds: [2, 4, 6, 6] });
    const score = (metric: string, value: number) => ({ task: 'arc_easy', metric, filter: 'none', value });
    const evaluation = { step: 4, tokens: 400, scores: [score('acc', 0.25), score('acc_norm', 0.5)] };
    appendFileSync(join(old, 'metrics.jsonl'), `${JSON.stringify(evaluation)}\n`);
    reader.refresh();
    expect(reader.metrics().tables.evaluation).toMatchObject({
      step: [4],
      values: { 'arc_easy, acc': [0.25], 'arc_easy, acc_norm': [0.5] },
    });
  });

  it('gives checkpoints with sizes, samples and evaluations', () => {
    const reader = new RunReader(a);
    reader.refresh();
    const { config, backend, checkpoints, samples, evaluations } = reader.details();
    expect(config).toMatchObject({ batchTokens: 128 });
    expect(backend).toBe('native: made up');
    expect(checkpoints).toMatchObject([
      { name: 'step-00000010', step: 10, bytes: 10_240, isLatest: false, isBest: true },
      { name: 'step-00000020', step: 20, bytes: 20_480, isLatest: true, isBest: false },
    ]);
    expect(samples.map(({ step, prompt }) => [step, prompt])).toEqual([
      [10, 'Once upon'],
      [20, 'Once upon'],
    ]);
    expect(evaluations).toMatchObject([
      { file: 'evaluation.json', step: 20, scores: [{ task: '128 tokens', metric: 'perplexity', value: 11.28 }, {}] },
    ]);
  });

  it('reads scores of tasks, and passes over what is none', () => {
    const run = join(base, 'scored');
    mkdirSync(join(run, 'results'), { recursive: true });
    const results = { arc_easy: { name: 'arc_easy', 'acc,none': 0.25, 'acc_stderr,none': 0.01, 'em,strict': 0.5 } };
    writeFileSync(join(run, 'results/x.json'), JSON.stringify({ model_name: 'r/checkpoints/step-00000300', results }));
    writeFileSync(join(run, 'package.json'), '{"results": 3}');
    writeFileSync(join(run, 'half.json'), '{"results": {');
    const { evaluations } = new RunReader(run).details();
    expect(evaluations.map(({ step, scores }) => [step, scores])).toEqual([
      [
        300,
        [
          { task: 'arc_easy', metric: 'acc', value: 0.25, standardError: 0.01 },
          { task: 'arc_easy', metric: 'em (strict)', value: 0.5, standardError: undefined },
        ],
      ],
    ]);
  });
});

describe('the board', () => {
  const board = () => createBoard(new Runs([join(base, 'runs')]));
  const ask = async <T>(app: ReturnType<typeof board>, path: string) =>
    (await (await app.request(`http://127.0.0.1${path}`)).json()) as T;

  it('answers with runs, their metrics and details', async () => {
    const app = board();
    const runs = await ask<RunSummary[]>(app, '/api/runs');
    expect(runs.map(({ name }) => name)).toEqual([a, b]);
    const name = encodeURIComponent(a);
    const metrics = await ask<RunMetrics>(app, `/api/metrics?run=${name}&from=21&generation=0`);
    expect([metrics.from, metrics.lines, metrics.tables.validation?.step]).toEqual([21, 22, [20]]);
    expect((await ask<RunDetails>(app, `/api/details?run=${name}`)).checkpoints).toHaveLength(2);
    for (const path of [`/api/details?run=${encodeURIComponent('/etc')}`, '/api/metrics', '/none'])
      expect((await app.request(`http://127.0.0.1${path}`)).status).toBe(404);
  });

  it('answers nobody who calls it by another name', async () => {
    const app = board();
    const status = async (host: string) => (await app.request('http://127.0.0.1/', { headers: { host } })).status;
    expect(await Promise.all(['127.0.0.1:6007', 'localhost:1', '[::1]:80'].map(status))).toEqual([200, 200, 200]);
    expect(await Promise.all(['evil.example', '127.0.0.1.evil.example'].map(status))).toEqual([403, 403]);
  });

  it('hands out the page that runs checkpoints in the browser, whose model runs in a worker, or says what is missing', async () => {
    const runs = new Runs([join(base, 'runs')]);
    const given = await createBoard(runs, { readWebPage: () => '<p>a model</p>' }).request('http://localhost/web');
    expect(await given.text()).toBe('<p>a model</p>');
    expect(given.headers.get('content-security-policy')).toMatch(/^default-src 'none';.* worker-src blob:/);
    const missing = await createBoard(runs).request('http://localhost/web');
    expect([missing.status, await missing.text()]).toEqual([
      501,
      expect.stringContaining('install @stickbreaking/web'),
    ]);
  });

  it('tells of changes as they come', async () => {
    const app = board();
    const answer = await app.request('http://127.0.0.1/api/events');
    const reader = answer.body!.pipeThrough(new TextDecoderStream() as never).getReader() as {
      read(): Promise<{ value?: string }>;
      cancel(): Promise<void>;
    };
    let heard = '';
    const next = async (): Promise<RunSummary[]> => {
      while (!heard.includes('\n\n')) heard += (await reader.read()).value;
      const end = heard.indexOf('\n\n');
      const data = /^data: (.*)$/m.exec(heard.slice(0, end))![1]!;
      heard = heard.slice(end + 2);
      return JSON.parse(data) as RunSummary[];
    };
    expect((await next())[1]).toMatchObject({ step: 10 });
    appendSteps(b, 11, 12);
    expect((await next())[1]).toMatchObject({ step: 12 });
    await reader.cancel();
  });
});

describe('sb-report', () => {
  it('writes one file that holds the runs', async () => {
    const output = join(base, 'report.html');
    appendFileSync(join(b, 'samples.jsonl'), `${JSON.stringify({ step: 1, prompt: '</script>', text: '' })}\n`);
    expect(await reportMain([a, b, '--output', output, '--title', 'Two & more'])).toBe(0);
    const html = readFileSync(output, 'utf8');
    const json = /<script id="runs" type="application\/json">(.*?)<\/script>/s.exec(html)![1]!;
    const { title, runs } = JSON.parse(json);
    expect(title).toBe('Two & more');
    expect(runs.map((run: { summary: RunSummary }) => run.summary.name)).toEqual([a, b]);
    expect(html).not.toMatch(/<(?:script|link|img)[^>]*(?:src|href)="(?!data:)/);
  });

  it('says in one line what it lacks', async () => {
    const empty = join(base, 'empty');
    mkdirSync(empty);
    expect(await reportMain([])).toBe(2);
    expect(await reportMain([empty, '--output', join(base, 'r.html')])).toBe(1);
    expect(await reportMain([join(base, 'none'), '--output', join(base, 'r.html')])).toBe(1);
    expect(await reportMain([a, '--output', join(a, 'train.log/r.html')])).toBe(1);
  });
});
