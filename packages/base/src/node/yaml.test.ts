import { describe, expect, it } from 'vitest';
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
      "run.yaml:2: key 'model.hidenSize' is not known; did you mean 'hiddenSize'?",
    ],
    [
      good.replace('peak: 0.01', 'peak: 0.01\n      warmupToken: 5'),
      [],
      "run.yaml:7: key 'stages.0.schedule.warmupToken' is not known; did you mean 'warmupTokens'?",
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
      "override 'model.numLayer=3': key 'model.numLayer' is not known; did you mean 'numLayers'?",
    ],
    [good, ['model.numLayers=x'], /^override 'model.numLayers=x': model.numLayers: .*got "x"/],
    [good, ['=3'], "override '=3': expected key.path=value"],
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
