import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { parseYaml, readYaml } from './yaml.js';

describe('alternatives, lists and overrides', () => {
  const schema = z.strictObject({
    model: z.strictObject({ hiddenSize: z.int(), numLayers: z.int().default(2) }),
    stages: z.array(
      z.strictObject({
        schedule: z.discriminatedUnion('kind', [
          z.strictObject({ kind: z.literal('power'), peak: z.number(), warmupTokens: z.int().optional() }),
          z.strictObject({ kind: z.literal('linear'), final: z.number() }),
        ]),
      }),
    ),
  });
  const good = 'model:\n  hiddenSize: 64\nstages:\n  - schedule:\n      kind: power\n      peak: 0.01\n';
  const parse = (text: string, overrides: string[] = []) => parseYaml(text, 'run.yaml', schema, { overrides });

  it('lays overrides over the file', () => {
    const run = parse(good, ['model.hiddenSize=128', 'stages.0.schedule.peak=1e-3']);
    expect(run.model).toEqual({ hiddenSize: 128, numLayers: 2 });
    expect(run.stages[0]?.schedule).toEqual({ kind: 'power', peak: 1e-3 });
  });

  it.each([
    [
      good.replace('hiddenSize', 'hidenSize'),
      [],
      "run.yaml:2: key 'model.hidenSize' is not known; did you mean 'model.hiddenSize'?",
    ],
    [
      good.replace('peak: 0.01', 'peak: 0.01\n      warmupToken: 5'),
      [],
      "run.yaml:7: key 'stages.0.schedule.warmupToken' is not known; did you mean 'stages.0.schedule.warmupTokens'?",
    ],
    [
      good.replace('peak: 0.01', 'peak: 0.01\n      duration: 5'),
      [],
      "run.yaml:7: key 'stages.0.schedule.duration' is not known; expected one of kind, peak, warmupTokens.",
    ],
    [good.replace('power', 'powr'), [], 'run.yaml:5: stages.0.schedule.kind: expected one of power, linear'],
    ['stages: []\n', [], "key 'model' is missing"],
    [good.replace('      peak: 0.01\n', ''), [], "run.yaml:4: key 'stages.0.schedule.peak' is missing"],
    [
      good,
      ['model.numLayer=3'],
      "override 'model.numLayer=3': key 'model.numLayer' is not known; did you mean 'model.numLayers'?",
    ],
    [good, ['model.numLayers=x'], /^override 'model.numLayers=x': model.numLayers: .*got "x"/],
    [good, ['model.numLayers=1', 'model.numLayers=x'], /^override 'model.numLayers=x': .*got "x"/],
    [good, ['stages.0.schedule.peak=1', 'stages.0.schedule.peak=a'], /^override 'stages.0.schedule.peak=a': .*"a"/],
    [good.replace('      peak: 0.01\n', ''), [], /'stages.0.schedule.peak' is missing \(expected number\)\.$/],
    [`${good}model: 3\n`, [], "run.yaml:7: key 'model' is given twice; give it once."],
    [`${good}"stages": []\n`, [], "run.yaml:7: key 'stages' is given twice; give it once."],
    [good, ['numLayers=3'], "override 'numLayers=3': key 'numLayers' is not known; did you mean 'model.numLayers'?"],
    [good, ['model.HiddenSize=3'], "did you mean 'model.hiddenSize'?"],
    [good, ['modle.numLayers=3'], "override 'modle.numLayers=3': key 'modle' is not known; did you mean 'model'?"],
    [good, ['=3'], "override '=3': expected key.path=value"],
    [good, ['model.hiddenSize=%s%n'], /^override 'model.hiddenSize=%s%n' cannot be applied: /],
    [good, ['model.hiddenSize=[1'], /^override 'model.hiddenSize=\[1' cannot be applied: /],
  ])('says in one line what is wrong with %j %j', (text, overrides, message) => {
    expect(() => parse(text, overrides)).toThrow(message);
    expect(() => parse(text, overrides)).not.toThrow('\n');
  });

  it('says that there is no file', () => {
    expect(() => readYaml('/nowhere/run.yaml', schema)).toThrow('cannot read /nowhere/run.yaml: there is no such file');
  });
});

describe('a file that is no configuration', () => {
  const loose = z.looseObject({});
  const bomb = `a: &a [x, x]\n${'bcdefghij'
    .split('')
    .map((name, i) => `${name}: &${name} [${`*${'abcdefghi'[i]}, `.repeat(9)}x]`)
    .join('\n')}\n`;

  it.each([
    ['an alias that names nothing', 'a: *nowhere\n'],
    ['aliases that unfold without end', bomb],
    ['nesting without end', '['.repeat(100_000)],
    ['a tab', 'a:\n\t- b\n'],
    ['a directive that nobody knows', '%s%n\n---\na: 1\n'],
  ])('is refused in one line: %s', (_, text) => {
    expect(() => parseYaml(text, 'run.yaml', loose)).toThrow(/^run\.yaml[^\n]*$/);
    expect(() => parseYaml(text, 'run.yaml', loose)).toThrow(expect.objectContaining({ name: 'UserError' }));
  });

  it.each(['stages.1000000000.x=1', 'stages.3=1', 'new.5=1'])('an override beyond a list’s end: %s', (override) => {
    const parse = () => parseYaml('stages: [{ x: 1 }]\n', 'run.yaml', loose, { overrides: [override] });
    expect(parse).toThrow(/beyond its end/);
  });

  it('but a list may grow by one', () => {
    const overrides = ['stages.1.x=2'];
    expect(parseYaml('stages: [{ x: 1 }]\n', 'run.yaml', loose, { overrides })).toEqual({
      stages: [{ x: 1 }, { x: 2 }],
    });
  });
});

describe('a file that people compose', () => {
  const directory = mkdtempSync(join(tmpdir(), 'yaml-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  afterEach(() => vi.unstubAllEnvs());

  const schema = z.strictObject({
    output: z.string(),
    seed: z.int().default(0),
    attention: z.union([
      z.strictObject({ kind: z.literal('stick-breaking'), attendCurrent: z.boolean().optional() }),
      z.strictObject({ kind: z.literal('softmax'), window: z.int().optional() }),
    ]),
    stages: z.array(z.strictObject({ steps: z.int(), peak: z.number() })),
    validation: z.strictObject({ tokens: z.int() }).optional(),
  });
  const file = (name: string, text: string) => {
    const path = join(directory, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
    return path;
  };
  const base = file(
    'base.yaml',
    'output: runs/a\nattention: { kind: stick-breaking, attendCurrent: true }\n' +
      'stages:\n  - steps: 5\n    peak: 1e-3\n  - steps: 6\n    peak: 2e-3\nvalidation: { tokens: 9 }\n',
  );
  const composed = { find: (name: string) => (name === 'shipped' ? base : name) };
  const read = (text: string, overrides: string[] = []) =>
    readYaml(file('run.yaml', text), schema, { composed, overrides });

  it('has what the other has, but for what it says itself', () => {
    expect(read('extends: base.yaml\noutput: runs/b\n')).toEqual({
      output: 'runs/b',
      seed: 0,
      attention: { kind: 'stick-breaking', attendCurrent: true },
      stages: [
        { steps: 5, peak: 1e-3 },
        { steps: 6, peak: 2e-3 },
      ],
      validation: { tokens: 9 },
    });
    expect(read('extends: shipped\n').output).toBe('runs/a');
  });

  it('replaces lists and mappings of another kind, merges other mappings, and takes out what is null', () => {
    const run = read(
      'extends: base.yaml\nattention: { kind: softmax }\nvalidation: ~\nstages: [{ steps: 1, peak: 1 }]\n',
    );
    expect(run.attention).toEqual({ kind: 'softmax' });
    expect(run.validation).toBeUndefined();
    expect(run.stages).toHaveLength(1);
    const kept = read('extends: base.yaml\nattention: { attendCurrent: false }\n', ['stages.1.steps=7']);
    expect(kept.attention).toEqual({ kind: 'stick-breaking', attendCurrent: false });
    expect(kept.stages[1]).toEqual({ steps: 7, peak: 2e-3 });
  });

  it('may extend a file that extends one, each path relative to its own file', () => {
    file('deeper/middle.yaml', 'extends: ../base.yaml\nseed: 3\noutput: runs/m\n');
    expect(read('extends: deeper/middle.yaml\noutput: runs/c\n')).toMatchObject({ output: 'runs/c', seed: 3 });
  });

  it.each([
    ['extends: base.yaml\nstages:\n  - steps: 5\n', /run\.yaml:3: key 'stages\.0\.peak' is missing/],
    ['extends: bad.yaml\n', /bad\.yaml:3: validation\.tokens/],
    ['extends: bad.yaml\nvalidation: { tokens: x }\n', /run\.yaml:2: validation\.tokens/],
    ['extends: nowhere.yaml\n', /run\.yaml:1: extends: cannot read nowhere\.yaml: there is no such file/],
    ['seed: 1\nextends: [a]\n', /run\.yaml:2: extends: expected the path of a file/],
    ['extends: run.yaml\n', /run\.yaml:1: extends: run\.yaml in turn extends this file/],
    ['extends: circle.yaml\n', /circle\.yaml:1: extends: run\.yaml in turn extends this file/],
    [`seed: 1\noutput: \${NOT_SET_ANYWHERE}\n`, /run\.yaml:2: \$\{NOT_SET_ANYWHERE\} is not set/],
    [`seed: 1\noutput: \${constructor}\n`, /run\.yaml:2: \$\{constructor\} is not set/],
  ])('names the file and line that is wrong: %j', (text, message) => {
    file('bad.yaml', 'extends: base.yaml\nvalidation:\n  tokens: many\n');
    file('circle.yaml', 'extends: run.yaml\n');
    expect(() => read(text)).toThrow(message);
  });

  it('reads the environment and knows the home directory', () => {
    vi.stubEnv('SEED', '7');
    vi.stubEnv('WHERE', 'a: b');
    const rest = 'extends: base.yaml\n';
    expect(read(`${rest}seed: \${SEED}\noutput: ~/runs/\${WHERE}\n`)).toMatchObject({
      seed: 7,
      output: `${homedir()}/runs/a: b`,
    });
    expect(read(`${rest}seed: \${OTHER_SEED:-9}\noutput: $\${SEED}\n`)).toMatchObject({ seed: 9, output: `\${SEED}` });
    expect(() => read(`${rest}seed: "\${SEED}"\n`)).toThrow(/seed/);
    expect(read(rest, ['output=~/b']).output).toBe(`${homedir()}/b`);
  });

  it('leaves other YAML files as they are', () => {
    const loose = z.looseObject({});
    expect(parseYaml(`extends: x\na: ~/b\nc: \${D}\n`, 'x.yaml', loose)).toEqual({
      extends: 'x',
      a: '~/b',
      c: `\${D}`,
    });
  });
});
