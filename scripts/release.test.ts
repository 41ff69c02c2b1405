/** A release's versions, changelog and order, on a copy of the files that it changes. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VERSION } from '@stickbreaking/base';
import { globSync } from 'tinyglobby';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dependenciesFirst, faultsOf, manifestsOf, prepare, tarballOf } from './release/packages.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const manifests = manifestsOf(root);

it('all packages have the version that commands tell, and ask for each other by it', () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  expect(version).toBe(VERSION);
  expect(manifests.map((one) => [one.name, one.version])).toEqual(manifests.map(({ name }) => [name, VERSION]));
  expect(faultsOf(root).filter((fault) => fault.includes(' asks for '))).toEqual([]);
});

it('packages are published after those that they need', () => {
  const names = dependenciesFirst(manifests).map(({ name }) => name);
  expect([...names].sort()).toEqual(manifests.map(({ name }) => name).sort());
  expect(names[0]).toBe('@stickbreaking/base');
  expect(names.at(-1)).toBe('stickbreaking');
  expect(names.indexOf('@stickbreaking/model')).toBeGreaterThan(names.indexOf('@stickbreaking/core'));
});

it('a tarball is called as pnpm calls it', () => {
  expect(tarballOf('@stickbreaking/base', '1.2.3')).toBe('stickbreaking-base-1.2.3.tgz');
  expect(tarballOf('stickbreaking', '1.2.3')).toBe('stickbreaking-1.2.3.tgz');
});

describe('prepare', () => {
  let copy: string;
  const read = (path: string) => readFileSync(join(copy, path), 'utf8');
  const files = ['package.json', 'packages/base/src/version.ts', ...globSync('packages/*/package.json', { cwd: root })];
  const changes = '# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0 – 2026-11-25\n\nThe first.\n';

  beforeEach(() => {
    copy = mkdtempSync(join(tmpdir(), 'release-'));
    for (const file of files) cpSync(join(root, file), join(copy, file));
    writeFileSync(join(copy, 'CHANGELOG.md'), changes);
  });
  afterEach(() => rmSync(copy, { recursive: true }));

  it('gives all packages, the commands and the changelog the version', () => {
    prepare(copy, '9.8.7', { repository: 'https://example.org/team/name.git', date: '2030-01-02' });
    expect(read('packages/base/src/version.ts')).toContain("VERSION = '9.8.7'");
    for (const path of files.filter((file) => file.endsWith('package.json'))) {
      const { repository, ...rest } = JSON.parse(read(path));
      const before = JSON.parse(readFileSync(join(root, path), 'utf8'));
      for (const asked of [before.dependencies ?? {}, before.peerDependencies ?? {}])
        for (const name of Object.keys(asked)) if (/stickbreaking/.test(name)) asked[name] = '9.8.7';
      expect(rest).toEqual({ ...before, version: '9.8.7', repository: undefined });
      if (path !== 'package.json')
        expect(repository).toEqual({
          type: 'git',
          url: 'git+https://example.org/team/name.git',
          directory: path.slice(0, -'/package.json'.length),
        });
    }
    expect(read('CHANGELOG.md')).toContain(
      '## Unreleased\n\n## 9.8.7 – 2030-01-02\n\n### Added\n\n- A thing.\n\n## 0.1.0',
    );
    expect(faultsOf(copy)).toEqual([]);
  });

  it.each([
    ['no version', '1.2', undefined, changes, /'1\.2' is no version/],
    ['a version that was released', '0.1.0', undefined, changes, /has 0\.1\.0 already/],
    [
      'nothing that has changed',
      '0.2.0',
      undefined,
      changes.replace('### Added\n\n- A thing.\n\n', ''),
      /nothing under/,
    ],
    ['no address', '0.2.0', 'team/name', changes, /expected its address/],
  ])('changes nothing with %s', (_, version, repository, text, line) => {
    writeFileSync(join(copy, 'CHANGELOG.md'), text);
    expect(() => prepare(copy, version, { repository, date: '2030-01-02' })).toThrow(line);
    expect(read('CHANGELOG.md')).toBe(text);
    for (const file of files) expect(read(file)).toBe(readFileSync(join(root, file), 'utf8'));
  });

  it('leaves nothing half done unsaid', () => {
    prepare(copy, '0.2.0', { repository: undefined, date: '2030-01-02' });
    const edit = (name: string, change: object) => {
      const path = `packages/${name}/package.json`;
      writeFileSync(join(copy, path), JSON.stringify({ ...JSON.parse(read(path)), ...change }));
    };
    edit('core', { version: '0.1.0' });
    edit('train', { dependencies: { '@stickbreaking/model': '0.1.9' } });
    edit('stickbreaking', { repository: undefined });
    writeFileSync(join(copy, 'CHANGELOG.md'), changes);
    const faults = faultsOf(copy).join('\n');
    expect(faults).toContain('@stickbreaking/core has version 0.1.0, and @stickbreaking/base 0.2.0');
    expect(faults).toContain('@stickbreaking/train asks for @stickbreaking/model 0.1.9, which is 0.2.0');
    expect(faults).toMatch(/no repository is named by .*\bstickbreaking\b/);
    expect(faults).toContain('CHANGELOG.md has no section 0.2.0');
  });
});
