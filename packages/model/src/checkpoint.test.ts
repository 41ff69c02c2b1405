import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveCheckpoint } from './checkpoint.js';

describe('resolveCheckpoint', () => {
  const root = mkdtempSync(join(tmpdir(), 'resolve-'));
  const run = join(root, 'run');
  const at = (...names: string[]) => join(run, 'checkpoints', ...names);
  beforeAll(() => {
    for (const step of ['step-00000010', 'step-00000020', 'step-00000030']) {
      mkdirSync(at(step), { recursive: true });
      writeFileSync(at(step, 'config.json'), '{}');
    }
    writeFileSync(at('latest'), 'step-00000030\n');
    writeFileSync(at('best'), 'step-00000020\n');
    mkdirSync(join(root, 'young/checkpoints'), { recursive: true });
    mkdirSync(join(root, 'best'));
    writeFileSync(join(root, 'best/config.json'), '{}');
    mkdirSync(join(root, 'text'));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  it.each([
    ['run', 'step-00000030'],
    ['run/latest', 'step-00000030'],
    ['run/best', 'step-00000020'],
    ['run/best/', 'step-00000020'],
    ['run/checkpoints/best', 'step-00000020'],
    ['run/step-00000010', 'step-00000010'],
    ['run/checkpoints/step-00000010', 'step-00000010'],
  ])('%s is %s', (path, step) => {
    expect(resolveCheckpoint(join(root, path))).toBe(at(step));
  });

  it('a directory of that name comes first', () => {
    expect(resolveCheckpoint(join(root, 'best'))).toBe(join(root, 'best'));
  });

  it.each(['../../other/checkpoints/step-00000010', '..', 'a\0b', '', 'step-00000099'])(
    'a pointer that names no step of the run leads nowhere: %j',
    (text) => {
      const pointed = join(root, 'pointed/checkpoints');
      for (const step of ['step-99999999', 'step-100000000']) mkdirSync(join(pointed, step), { recursive: true });
      mkdirSync(join(root, 'other/checkpoints/step-00000010'), { recursive: true });
      writeFileSync(join(root, 'other/checkpoints/step-00000010/config.json'), '{}');
      writeFileSync(join(pointed, 'latest'), text);
      expect(resolveCheckpoint(join(root, 'pointed'))).toBe(join(pointed, 'step-100000000'));
    },
  );

  it.each([
    ['run/step-00000015', /run has no checkpoint 'step-00000015'; it has latest, best, step-00000010, step-00000020/],
    ['young', /neither a checkpoint/],
    ['young/best', /neither a checkpoint/],
    ['text', /neither a checkpoint/],
    ['nothing', /There is no checkpoint at .*nothing: no such directory/],
    ['nothing/best', /There is no checkpoint at .*best: no such directory/],
  ])('%s is none', (path, message) => {
    expect(() => resolveCheckpoint(join(root, path))).toThrow(message);
  });

  it.each<[string, (pointer: string) => void, RegExp]>([
    [
      'names one that was deleted',
      (pointer) => writeFileSync(pointer, 'step-00000030\n'),
      /best names step-00000030, which is not there any more; the run has step-00000010, step-00000020\.$/,
    ],
    [
      'names none',
      (pointer) => writeFileSync(pointer, '../else'),
      /best is damaged: it names '\.\.\/else', which is no checkpoint; the run has step-00000010, /,
    ],
    [
      'is a directory',
      (pointer) => mkdirSync(pointer),
      /best is no file, and one that names a checkpoint was expected; the run has step-00000010, /,
    ],
  ])('a best that %s is told as what it is', (_, make, message) => {
    const made = mkdtempSync(join(root, 'pointing-'));
    for (const step of ['step-00000010', 'step-00000020'])
      mkdirSync(join(made, 'checkpoints', step), { recursive: true });
    make(join(made, 'checkpoints/best'));
    for (const path of ['best', 'checkpoints/best']) {
      const resolved = () => resolveCheckpoint(join(made, path));
      expect(resolved).toThrow(message);
      expect(resolved).toThrow(expect.objectContaining({ exitCode: EXIT.refused }));
    }
    expect(() => resolveCheckpoint(join(made, 'step-00000030'))).toThrow(/; it has step-00000010, step-00000020\.$/);
    expect(resolveCheckpoint(made)).toBe(join(made, 'checkpoints/step-00000020'));
  });
});
