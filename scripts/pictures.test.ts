/** The pictures of docs/studies.md are those that its numbers give. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const drawn = mkdtempSync(join(tmpdir(), 'drawn-'));
afterAll(() => rmSync(drawn, { recursive: true, force: true }));

it('draws the pictures in docs/images again', () => {
  execFileSync(process.execPath, [join(root, 'scripts/pictures.mjs'), drawn]);
  const pictures = readdirSync(drawn);
  expect(pictures.length).toBeGreaterThan(0);
  for (const picture of pictures) {
    const published = readFileSync(join(root, 'docs/images', picture), 'utf8');
    expect(readFileSync(join(drawn, picture), 'utf8') === published, `${picture} is out of date`).toBe(true);
  }
});
