import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockOrRefuse } from '@stickbreaking/base/node';
import { beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { StudyFolder } from './folder.js';
import { elapsedOf, toCsv } from './publish.js';
import { runStudy, standingOf } from './runner.js';
import type { ArmContext, Study, StudyConfig } from './study.js';

interface CountConfig extends StudyConfig {
  arms: { name: string; value: number }[];
}

let ran: string[] = [];
let stopAt: string | undefined;
/** Called by `prepare` and by each arm. */
let meanwhile: (what: string, context: Pick<ArmContext, 'notice' | 'signal'>) => void = () => {};

/** A study whose arms say their value. */
const counting: Study<CountConfig, { value: number }, string> = {
  kind: 'counting',
  schema: z.any(),
  result: z.object({ value: z.number() }),
  arms: ({ arms }) => arms.map(({ name, value }) => ({ id: name, settings: { value } })),
  prepare: async (_config, context) => {
    meanwhile('prepare', context);
    return 'prepared';
  },
  whySkipped: (arm, results) => (arm.id.startsWith('spare') && results.size > 0 ? 'it is spare' : undefined),
  run: async (arm, _config, { directory, signal, notice }, prepared) => {
    expect(prepared).toBe('prepared');
    meanwhile(arm.id, { notice, signal });
    ran.push(arm.id);
    if (arm.id === stopAt) return undefined;
    writeFileSync(join(directory, 'work'), 'done');
    return signal.aborted ? undefined : { value: arm.settings.value as number };
  },
  report: (_config, results) => ({
    title: 'Counting',
    findings: [{ expected: 'one', source: 'here', found: 'one', verdict: 'agrees' }],
    blocks: [{ kind: 'text', text: `${results.size} results` }],
    rows: [...results].map(([name, { value }]) => ({ name, value })),
  }),
};

const study = counting as unknown as Study;
const folder = mkdtempSync(join(tmpdir(), 'study-'));
const options = {
  backend: { name: 'cpu', description: 'a test', arithmetic: 'plain', reason: 'asked for' },
  signal: new AbortController().signal,
  commandLine: 'sb-study --config counting.yaml',
  command: '',
  log: () => {},
  say: () => {},
};

describe('runStudy', () => {
  let config: CountConfig;
  const results = () => JSON.parse(readFileSync(join(config.output, 'results/results.json'), 'utf8'));

  beforeEach(() => {
    ran = [];
    stopAt = undefined;
    meanwhile = () => {};
    rmSync(folder, { recursive: true, force: true });
    const arms = ['a', 'b', 'c'].map((name, value) => ({ name, value }));
    config = { study: 'counting', output: join(folder, 'out'), backend: 'cpu', arms };
  });

  it('stops where it is told, says what is missing, and goes on from there', async () => {
    stopAt = 'b';
    expect(await runStudy(study, config, options)).toBe(false);
    expect(ran).toEqual(['a', 'b']);
    expect(results().missing).toEqual(['b', 'c']);
    expect(readFileSync(join(config.output, 'results/report.html'), 'utf8')).toContain('Not finished: 2 of 3 arms');
    [stopAt, ran] = [undefined, []];
    expect(await runStudy(study, config, options)).toBe(true);
    expect(ran).toEqual(['b', 'c']);
    expect(results()).toMatchObject({
      study: 'counting',
      missing: [],
      rows: [{ value: 0 }, { value: 1 }, { value: 2 }],
    });
    expect(results().environments[0]).toMatchObject({ backend: 'a test', node: process.versions.node });
  });

  it('runs nothing twice, and an arm anew where its settings have changed, beside the old one', async () => {
    await runStudy(study, config, options);
    ran = [];
    await runStudy(study, config, options);
    expect(ran).toEqual([]);
    config.arms[1]!.value = 7;
    await runStudy(study, config, options);
    expect(ran).toEqual(['b']);
    expect(results().rows).toContainEqual({ name: 'b', value: 7 });
    expect(results().rows).toHaveLength(3);
    expect(readdirSync(join(config.output, 'arms'))).toHaveLength(4);
    config.arms[1]!.value = 1;
    ran = [];
    await runStudy(study, config, options);
    expect(ran).toEqual([]);
  });

  it('runs only what is wanted; the rest stays to be run', async () => {
    expect(await runStudy(study, config, { ...options, wanted: (id) => id !== 'b' })).toBe(false);
    expect(ran).toEqual(['a', 'c']);
    expect(results().missing).toEqual(['b']);
  });

  it('writes nothing when it only looks', () => {
    expect(standingOf(study, config).open).toHaveLength(3);
    expect(existsSync(config.output)).toBe(false);
  });

  it('says which file is damaged and what to do, also where it is valid JSON', async () => {
    await runStudy(study, config, options);
    const [arm] = study.arms(config);
    const file = join(StudyFolder.open(config.output, study).armDirectory(arm!), 'result.json');
    const whole = JSON.parse(readFileSync(file, 'utf8'));
    const wrong: [unknown, string][] = [
      [null, 'is damaged: Invalid input: expected object, received null'],
      [[], 'is damaged: Invalid input: expected object, received array'],
      [{ ...whole, seconds: '3' }, "is damaged, key 'seconds': Invalid input: expected number, received string"],
      [{ ...whole, result: null }, "is damaged, key 'result': Invalid input: expected object, received null"],
      [{ ...whole, result: { value: null } }, "is damaged, key 'result.value': Invalid input: expected number"],
      [{ ...whole, settings: { value: 77 } }, "is of another arm ('a') than its folder"],
      [{ ...whole, finished: 'x' }, "is damaged, key 'finished'"],
    ];
    for (const [content, message] of wrong) {
      writeFileSync(file, JSON.stringify(content));
      expect(() => standingOf(study, config)).toThrow(`${file} ${message}`);
      expect(() => standingOf(study, config)).toThrow(/; remove it, and the arm is run again\.$/);
    }
    rmSync(file);
    expect(standingOf(study, config).open).toEqual([arm]);
    for (const content of ['null', '{}', '{"study": 3}', '[]', '{']) {
      writeFileSync(join(config.output, 'study.json'), content);
      expect(() => standingOf(study, config)).toThrow(
        /study\.json is damaged.*; write \{"study":"counting"\} into it .*, or name another folder/,
      );
    }
  });

  it('refuses a folder in which another process is at work', async () => {
    await runStudy(study, config, { ...options, wanted: (id) => id === 'a' });
    const release = lockOrRefuse(config.output, 'trains');
    await expect(runStudy(study, config, options)).rejects.toThrow(/Another process .* wait for it/);
    release();
    expect(await runStudy(study, config, options)).toBe(true);
  });

  it('waits for a process that is still at work in an arm, and says so', async () => {
    await runStudy(study, config, { ...options, wanted: () => false });
    const directory = StudyFolder.open(config.output, study).armDirectory(study.arms(config)[0]!);
    const release = lockOrRefuse(directory, 'trains');
    const said: string[] = [];
    const running = runStudy(study, config, { ...options, log: (line) => said.push(line) });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ran).toEqual([]);
    release();
    expect(await running).toBe(true);
    expect(said).toContain(`[1/3] a: waiting for process ${process.pid}, which is at work in ${directory}`);
  });

  it('is stopped, and does not fail, while it waits or prepares', async () => {
    await runStudy(study, config, { ...options, wanted: () => false });
    const directory = StudyFolder.open(config.output, study).armDirectory(study.arms(config)[0]!);
    const release = lockOrRefuse(directory, 'trains');
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 50);
    expect(await runStudy(study, config, { ...options, signal: stop.signal })).toBe(false);
    release();
    const preparing = new AbortController();
    meanwhile = (what) => {
      if (what !== 'prepare') return;
      preparing.abort();
      preparing.signal.throwIfAborted();
    };
    expect(await runStudy(study, config, { ...options, signal: preparing.signal })).toBe(false);
    expect(ran).toEqual([]);
  });

  it('passes on what arms have to tell', async () => {
    meanwhile = (what, { notice }) => what === 'b' && notice('odd');
    const said: string[] = [];
    await runStudy(study, config, { ...options, log: (line) => said.push(line) });
    expect(said).toContain('[2/3] b: odd');
  });

  it('skips an arm that the results so far make needless', async () => {
    config.arms.push({ name: 'spare', value: 9 });
    expect(await runStudy(study, config, options)).toBe(true);
    expect(ran).toEqual(['a', 'b', 'c']);
    expect(results().missing).toEqual([]);
  });

  it('goes on in a folder whose making was cut short', async () => {
    mkdirSync(config.output, { recursive: true });
    writeFileSync(join(config.output, 'study.json.99999999-0a1b2c3d.tmp'), '{"stu');
    expect(await runStudy(study, config, options)).toBe(true);
    expect(readdirSync(config.output).sort()).toEqual(['arms', 'results', 'shared', 'study.json']);
  });

  it('refuses the folder of another study or of something else, and touches nothing there', () => {
    mkdirSync(config.output, { recursive: true });
    writeFileSync(join(config.output, 'thesis.txt'), 'precious');
    expect(() => standingOf(study, config)).toThrow(/in use by something else than a study.*output=FOLDER/);
    writeFileSync(join(config.output, 'study.json'), '{"study":"speed"}');
    expect(() => standingOf(study, config)).toThrow(/holds a study 'speed', not 'counting'/);
    writeFileSync(join(config.output, 'study.json'), '{"study":');
    expect(() => standingOf(study, config)).toThrow(/study.json is damaged/);
    expect(readdirSync(config.output).sort()).toEqual(['study.json', 'thesis.txt']);
    expect(existsSync(join(config.output, 'results'))).toBe(false);
  });
});

it('writes CSV as RFC 4180 has it', () => {
  expect(
    toCsv([
      { a: 1, b: 'x, "y"' },
      { a: 2, c: 3 },
    ]),
  ).toBe('a,b,c\r\n1,"x, ""y""",\r\n2,,3\r\n');
});

it('counts the time in which arms ran, once where they ran together', () => {
  const arm = (seconds: number, at: number) => ({ seconds, finished: new Date(1000 * at).toISOString() });
  expect(elapsedOf([arm(10, 110), arm(5, 112), arm(3, 104), arm(4, 200)])).toBeCloseTo(12 + 4, 6);
  expect(elapsedOf([])).toBe(0);
});
