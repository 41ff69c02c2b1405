import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { AppendFile } from './append_file.js';

it('appends to what is there, and cuts it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'append-'));
  const path = join(folder, 'lines');
  for (const text of ['one\n', 'two\n']) {
    const file = new AppendFile(path);
    file.append(text);
    file.sync();
    file.close();
  }
  expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n');
  const file = new AppendFile(path);
  file.cutTo(4);
  file.append(Uint8Array.of(33));
  file.close();
  expect(readFileSync(path, 'utf8')).toBe('one\n!');
  rmSync(folder, { recursive: true });
});

it('names its path where it cannot be made or grown', () => {
  const folder = mkdtempSync(join(tmpdir(), 'append-'));
  expect(() => new AppendFile(join(folder, 'none', 'lines'))).toThrow(/^cannot write .*none\/lines: there is no such/);
  const file = new AppendFile(join(folder, 'lines'), 'lines…');
  file.close();
  for (const work of [() => file.append('x'), () => file.cutTo(0), () => file.sync()])
    expect(work).toThrow('cannot write lines…: ');
  rmSync(folder, { recursive: true });
});
