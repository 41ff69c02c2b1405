/** The JSON Schemas that editors read: as new as the zod schemas, and of the same mind about real files. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readYaml } from '@stickbreaking/base/node';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { schemas, text } from './schemas.mjs';

const configs = fileURLToPath(new URL('../configs/', import.meta.url));
const validator = new Ajv2020({ strict: false, formats: {} });
const check = { run: validator.compile(schemas['run.json']), study: validator.compile(schemas['study.json']) };
const files = (folder: string) =>
  readdirSync(configs + folder)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => folder + name);

describe('configs/schemas', () => {
  it.each(Object.keys(schemas) as (keyof typeof schemas)[])('%s is what the code accepts (npm run schemas)', (name) => {
    expect(readFileSync(`${configs}schemas/${name}`, 'utf8')).toBe(text(schemas[name]));
  });

  it.each([...files(''), ...files('studies/')])('accepts %s, which names its schema', (file) => {
    const content = readFileSync(configs + file, 'utf8');
    const kind = file.startsWith('studies/') ? 'study' : 'run';
    expect(content).toMatch(
      new RegExp(`^# yaml-language-server: \\$schema=${kind === 'study' ? '../' : ''}schemas/${kind}\\.json\\n`),
    );
    check[kind](readYaml(configs + file, z.looseObject({})));
    expect(check[kind].errors ?? []).toEqual([]);
  });

  it.each([
    ['a misspelt key', { extends: '350m', sed: 1 }],
    ['a value of another type', { extends: '350m', seed: 'one' }],
    ['a missing key where nothing is extended', { output: 'runs/a' }],
    ['an option of another attention', { extends: '350m', model: { attention: { kind: 'softmax', headNorm: true } } }],
  ])('refuses %s', (_, run) => {
    expect(check.run(run)).toBe(false);
  });

  it('lets a file that extends another leave things out', () => {
    expect(check.run({ extends: '350m', output: 'runs/b', seed: 1 })).toBe(true);
  });
});
