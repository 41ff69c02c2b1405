import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readYaml } from './yaml_config.js';

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
  tokenizer: z.string().optional(),
});

const file = join(mkdtempSync(join(tmpdir(), 'yaml-')), 'run.yaml');
const good = 'model:\n  hiddenSize: 64\nstages:\n  - schedule:\n      kind: power\n      peak: 0.01\n';

function read(text: string, overrides: string[] = []) {
  writeFileSync(file, text);
  return readYaml(file, schema, { overrides, pathKeys: ['tokenizer'] });
}

function message(text: string, overrides: string[] = []): string {
  try {
    read(text, overrides);
  } catch (error) {
    expect((error as Error).name).toBe('UserError');
    expect((error as Error).message).not.toContain('\n');
    return (error as Error).message;
  }
  throw new Error('no error');
}

describe('readYaml', () => {
  it('fills defaults in and applies changes', () => {
    const run = read(good, ['model.hiddenSize=128', 'stages.0.schedule.peak=1e-3', 'tokenizer=here/t.json']);
    expect(run.model).toEqual({ hiddenSize: 128, numLayers: 2 });
    expect(run.stages[0]?.schedule).toEqual({ kind: 'power', peak: 1e-3 });
    expect(run.tokenizer).toBe(resolve('here/t.json'));
  });

  it('names the nearest right key, with file and line', () => {
    expect(message(good.replace('hiddenSize', 'hidenSize'))).toBe(
      `${file}:2: unknown key 'model.hidenSize'; did you mean 'hiddenSize'?`,
    );
    expect(message(good.replace('peak: 0.01', 'peak: 0.01\n      warmupToken: 5'))).toBe(
      `${file}:7: unknown key 'stages.0.schedule.warmupToken'; did you mean 'warmupTokens'?`,
    );
  });

  it('says file, line and key of a bad value', () => {
    const text = message(good.replace('64', 'many'));
    expect(text).toContain(`${file}:2: key 'model.hiddenSize' is "many"`);
    expect(text).toContain('expected');
    expect(message('model: [1\n')).toContain(`${file}:`);
    expect(message('stages: []\n')).toContain("key 'model' is missing");
  });

  it('names the change that is wrong', () => {
    expect(message(good, ['model.numLayer=3'])).toBe(
      "change 'model.numLayer=3': unknown key 'model.numLayer'; did you mean 'numLayers'?",
    );
    expect(message(good, ['model.numLayers=x'])).toContain(
      "change 'model.numLayers=x': key 'model.numLayers' is \"x\"",
    );
    expect(message(good, ['numLayers'])).toContain('expected key.path=value');
  });

  it('says that there is no file', () => {
    expect(() => readYaml('/nowhere/run.yaml', schema)).toThrow('cannot read /nowhere/run.yaml: there is no such file');
  });
});
