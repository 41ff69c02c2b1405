import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { z } from 'zod';
import { openFile, readWhole } from './read_whole.js';
import { readYaml } from './yaml.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-whole-'));
afterAll(() => rmSync(directory, { recursive: true }));
const at = (name: string) => join(directory, name);

it('reads a file, also through a link and where its length is not known beforehand', () => {
  writeFileSync(at('a'), 'text');
  symlinkSync('a', at('link'));
  expect(readWhole(at('link')).toString()).toBe('text');
  expect(readWhole('/proc/self/status').toString()).toContain('Pid:');
});

it('refuses what is no file, in one line that names it', () => {
  execFileSync('mkfifo', [at('pipe')]);
  symlinkSync('circle', at('circle'));
  const wrong: [string, string][] = [
    ['/dev/zero', 'cannot read /dev/zero: it is a device, and a file was expected.'],
    [directory, `cannot read ${directory}: it is a directory, and a file was expected.`],
    [at('pipe'), `cannot read ${at('pipe')}: it is a pipe, and a file was expected.`],
    [at('circle'), `cannot read ${at('circle')}: its symbolic links lead in a circle (ELOOP).`],
    [at('none'), `cannot read ${at('none')}: there is no such file or directory (ENOENT).`],
    [at('x'.repeat(300)), `cannot read ${at('x'.repeat(300))}: the name is too long (ENAMETOOLONG).`],
    ['a\0b', 'cannot read a\0b: a path cannot hold a NUL character.'],
    ['/proc/self/mem', 'cannot read /proc/self/mem: input/output error, the disk may be failing (EIO).'],
  ];
  for (const [path, message] of wrong) {
    expect(() => readWhole(path)).toThrow(message);
    expect(() => readYaml(path, z.any())).toThrow(message);
  }
});

it('opens nothing but files for appending, and does not wait for a reader', () => {
  const wrong: [string, RegExp][] = [
    ['/dev/full', /^cannot write \/dev\/full: it is a device, and a file was expected\.$/],
    [directory, /^cannot write .*: it is a directory \(EISDIR\)\.$/],
    [at('pipe'), /^cannot write .*pipe: there is no such device, or nobody at its other end \(ENXIO\)\.$/],
    [at('a/b'), /^cannot write .*: a part of the path is not a directory/],
  ];
  for (const [path, message] of wrong) expect(() => openFile(path, 'appending')).toThrow(message);
  const file = openFile(at('new'), 'appending');
  writeSync(file, 'more');
  closeSync(file);
  expect(readWhole(at('new')).toString()).toBe('more');
});
