// A cache of kernels that cannot be written costs a compilation, never a run.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { keep } from './compiler.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-cache-'));
afterAll(() => rmSync(directory, { recursive: true }));

it('keeps a compiled kernel, or says that it cannot', () => {
  const path = join(directory, 'cuda', 'a.cubin');
  expect(keep(path, Uint8Array.of(1, 2, 3))).toBe(true);
  expect([...readFileSync(path)]).toEqual([1, 2, 3]);
  writeFileSync(join(directory, 'file'), '');
  expect(keep(join(directory, 'file', 'a.cubin'), Uint8Array.of(1))).toBe(false); // a file is in the way
  expect(keep('/proc/a.cubin', 'log')).toBe(false); // nothing can be made there
});
