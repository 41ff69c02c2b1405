import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VERSION } from '@stickbreaking/base';
import { afterAll, describe, expect, it } from 'vitest';
import { findCommit } from './environment.js';

describe('what a result was made by', () => {
  const root = mkdtempSync(join(tmpdir(), 'commit-'));
  afterAll(() => rmSync(root, { recursive: true }));

  it('is the version where npm installed it, whatever repository it lies in', () => {
    mkdirSync(join(root, '.git'));
    writeFileSync(join(root, 'commit'), 'of something else\n');
    const installed = join(root, 'node_modules/@stickbreaking/study/dist');
    mkdirSync(installed, { recursive: true });
    expect(findCommit(installed)).toBe(`version ${VERSION}`);
  });

  it('is what the file of a bundle says', () => {
    mkdirSync(join(root, 'bundle/program'), { recursive: true });
    writeFileSync(join(root, 'bundle/commit'), 'abcdef\n');
    expect(findCommit(join(root, 'bundle/program'))).toBe('abcdef');
  });
});
