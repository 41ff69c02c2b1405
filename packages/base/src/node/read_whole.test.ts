import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { z } from 'zod';
import { readWhole } from './read_whole.js';
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
    ['a\0b', 'cannot read a\0b: a path cannot hold a NUL character (ERR_INVALID_ARG_VALUE).'],
    ['/proc/self/mem', 'cannot read /proc/self/mem: input/output error, the disk may be failing (EIO).'],
  ];
  for (const [path, message] of wrong) {
    expect(() => readWhole(path)).toThrow(message);
    expect(() => readYaml(path, z.any())).toThrow(message);
  }
});
