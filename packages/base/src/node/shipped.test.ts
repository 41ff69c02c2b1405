import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ShippedFiles } from './shipped.js';

describe('files that come with a package', () => {
  const before = process.cwd();
  const root = mkdtempSync(join(tmpdir(), 'shipped-'));
  const module = pathToFileURL(join(root, 'package/dist/deep/module.js')).href;
  const configs = join(root, 'package/configs');

  beforeAll(() => {
    for (const folder of ['package/dist/deep', 'package/configs/studies', 'work', 'configs'])
      mkdirSync(join(root, folder), { recursive: true });
    for (const name of ['small.yaml', 'large.yaml', 'notes.txt']) writeFileSync(join(configs, name), '');
    writeFileSync(join(root, 'configs/other.yaml'), '');
    process.chdir(join(root, 'work'));
  });
  afterAll(() => {
    process.chdir(before);
    rmSync(root, { recursive: true });
  });

  it('are those of the nearest folder', () => {
    expect(new ShippedFiles(module, 'configs').names()).toEqual(['large', 'small']);
  });

  it('go by their name, and a file of the user’s goes before them', () => {
    const files = new ShippedFiles(module, 'configs');
    expect(files.find('small')).toBe(join(configs, 'small.yaml'));
    writeFileSync('small', '');
    expect(files.find('small')).toBe('small');
    rmSync('small');
  });

  it('go by their name also beside a directory that is called so', () => {
    mkdirSync('small');
    mkdirSync('other');
    const files = new ShippedFiles(module, 'configs');
    expect(files.find('small')).toBe(join(configs, 'small.yaml'));
    expect(files.find('other')).toBe('other'); // whoever reads it says that it is a directory
    rmSync('small', { recursive: true });
    rmSync('other', { recursive: true });
  });

  it('are named where there is no such file', () => {
    const files = new ShippedFiles(module, 'configs');
    const missing = 'there is no such file or directory (ENOENT).';
    const list = 'These come with this program and go by their names: large, small.';
    expect(() => files.find('smal')).toThrow(`cannot read smal: ${missing} ${list}`);
    const one = "'small' alone names the one that comes with this program.";
    for (const path of ['small.yaml', 'configs/small.yaml'])
      expect(() => files.find(path)).toThrow(`cannot read ${path}: ${missing} ${one}`);
  });

  it('may not have come along', () => {
    const files = new ShippedFiles(module, 'no-such-configs');
    expect(files.names()).toEqual([]);
    expect(() => files.find('small')).toThrow(/^cannot read small: there is no such file or directory \(ENOENT\)\.$/);
  });

  it('leave what is there but cannot be read to whoever reads it', () => {
    const files = new ShippedFiles(module, 'configs');
    writeFileSync('file', '');
    for (const given of ['.', 'file/below', 'a\0b']) expect(files.find(given)).toBe(given);
  });
});
