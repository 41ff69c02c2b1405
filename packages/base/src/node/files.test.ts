import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { checkOutput } from './command.js';
import {
  checkDirectory,
  makeDirectory,
  removeLeftovers,
  replaceFile,
  replaceFileAsync,
  temporaryBeside,
  writeFully,
} from './files.js';

let root: string;
let path: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stickbreaking-files-'));
  path = join(root, 'file');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('checkDirectory', () => {
  it('takes what is one or can be made, and makes nothing', () => {
    for (const good of [root, join(root, 'a/b/c')]) expect(() => checkDirectory(good)).not.toThrow();
    expect(readdirSync(root)).toEqual([]);
  });

  it('says what stands in the way', () => {
    writeFileSync(path, '');
    symlinkSync('/nowhere/at/all', join(root, 'link'));
    symlinkSync('circle', join(root, 'circle'));
    for (const name of ['file', 'file/a/b', 'link', 'link/a', 'circle/a', 'n'.repeat(300)]) {
      expect(() => checkDirectory(join(root, name))).toThrow(/^cannot make the directory [^\n]*$/);
    }
    expect(() => checkDirectory(path)).toThrow(`: ${path} is no directory.`);
    expect(() => checkDirectory(join(root, 'file/a/b'))).toThrow(
      `a/b: a part of the path is not a directory (ENOTDIR).`,
    );
  });
});

describe('replaceFile', () => {
  it('writes text, bytes, and what comes piece by piece', () => {
    replaceFile(path, 'Grüße');
    expect(readFileSync(path, 'utf8')).toBe('Grüße');
    replaceFile(path, Uint8Array.of(1, 2));
    expect([...readFileSync(path)]).toEqual([1, 2]);
    replaceFile(path, (write) => {
      write(Uint8Array.of(3));
      expect([...readFileSync(path)]).toEqual([1, 2]); // the old one until the new one is whole
      write(Uint8Array.of(4));
    });
    expect([...readFileSync(path)]).toEqual([3, 4]);
    expect(readdirSync(root)).toEqual(['file']);
  });

  it('leaves the old file and nothing beside it where it fails', () => {
    replaceFile(path, 'old');
    const broken = (write: (bytes: Uint8Array) => void) => {
      write(Uint8Array.of(1));
      throw new Error('no more');
    };
    expect(() => replaceFile(path, broken)).toThrow('no more');
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(root)).toEqual(['file']);
  });

  it.skipIf(process.platform === 'win32')('replaces the file behind a link, and writes into a device', () => {
    const [link, device] = [join(root, 'link'), join(root, 'device')];
    writeFileSync(path, 'old');
    symlinkSync(path, link);
    replaceFile(link, 'new');
    expect([lstatSync(link).isSymbolicLink(), readFileSync(path, 'utf8')]).toEqual([true, 'new']);
    symlinkSync('/dev/null', device);
    replaceFile(device, 'gone');
    expect([lstatSync(device).isSymbolicLink(), statSync(device).isCharacterDevice()]).toEqual([true, true]);
    expect(readdirSync(root).sort()).toEqual(['device', 'file', 'link']);
  });

  it('says in one line what is in the way', () => {
    expect(() => replaceFile(join(root, 'none', 'file'), '')).toThrow(
      `cannot write ${join(root, 'none', 'file')}: there is no such file or directory (ENOENT).`,
    );
    writeFileSync(join(root, 'plain'), '');
    expect(() => replaceFile(join(root, 'plain', 'file'), '')).toThrow(
      `cannot write ${join(root, 'plain', 'file')}: a part of the path is not a directory (ENOTDIR).`,
    );
    rmSync(join(root, 'plain'));
    mkdirSync(path);
    expect(() => checkOutput('a\0b')).toThrow('cannot write a\0b: a path cannot hold a NUL character');
    expect(() => replaceFile(path, '')).toThrow(/^cannot write .*: it is a directory \(EISDIR\)\.$/);
    expect(readdirSync(root)).toEqual(['file']);
  });

  it.skipIf(process.platform === 'win32')('gives the permissions that are asked for', () => {
    replaceFile(path, '', { mode: 0o700 });
    expect(statSync(path).mode & 0o777).toBe(0o700);
  });
});

it.skipIf(!existsSync('/dev/full'))('writeFully on a full disk throws', () => {
  const full = openSync('/dev/full', 'w');
  try {
    expect(() => writeFully(full, Uint8Array.of(1))).toThrow('ENOSPC');
  } finally {
    closeSync(full);
  }
});

describe('replaceFileAsync', () => {
  const piece = new Uint8Array(2 ** 20).map((_, i) => i % 251);
  const pieces = async (write: (bytes: Uint8Array) => Promise<void>) => {
    for (let i = 0; i < 9; i++) await write(piece);
  };

  async function spied(method: 'datasync' | 'sync') {
    const handle = await open(root);
    const prototype: typeof handle = Object.getPrototypeOf(handle);
    await handle.close();
    return vi.spyOn(prototype, method);
  }

  it('writes piece by piece, begins to flush before all is written, and flushes all at the end', async () => {
    const [early, late] = [await spied('datasync'), await spied('sync')];
    writeFileSync(path, 'old');
    await replaceFileAsync(path, pieces, { flushBytes: 8 * piece.length });
    expect([early.mock.calls.length, late.mock.calls.length]).toEqual([1, 1]);
    vi.restoreAllMocks();
    const content = readFileSync(path);
    expect(content.length).toBe(9 * piece.length);
    for (let i = 0; i < 9; i++)
      expect(content.subarray(i * piece.length, (i + 1) * piece.length).equals(piece)).toBe(true);
    expect(readdirSync(root)).toEqual(['file']);
  });

  it.each(['datasync', 'sync'] as const)('leaves the old file and nothing beside it where %s fails', async (method) => {
    writeFileSync(path, 'old');
    const failing = await spied(method);
    failing.mockRejectedValueOnce(
      Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO', syscall: method }),
    );
    await expect(replaceFileAsync(path, pieces, { flushBytes: 8 * piece.length })).rejects.toThrow(
      `cannot write ${path}: `,
    );
    expect(failing).toHaveBeenCalledOnce();
    vi.restoreAllMocks();
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(root)).toEqual(['file']);
  });

  it('leaves the old file and nothing beside it where its content fails, and makes none in a directory', async () => {
    writeFileSync(path, 'old');
    const failing = async (write: (bytes: Uint8Array) => Promise<void>) => {
      await write(piece);
      throw new Error('no more');
    };
    await expect(replaceFileAsync(path, failing)).rejects.toThrow('no more');
    await expect(replaceFileAsync(join(root, 'none/file'), pieces)).rejects.toThrow(
      `cannot write ${join(root, 'none/file')}`,
    );
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(root)).toEqual(['file']);
  });
});

it('removes what the dead left, and what anyone left where asked', () => {
  const { pid: dead } = spawnSync(process.execPath, ['-e', '']);
  const [left, alive, other] = [`a.${dead}-0123abcd.tmp`, basename(temporaryBeside(join(root, 'a'))), 'a.tmp'];
  for (const name of [left, alive, other]) writeFileSync(join(root, name), '');
  removeLeftovers(root, 'the dead');
  expect(readdirSync(root).sort()).toEqual([alive, other].sort());
  removeLeftovers(root, 'anyone');
  expect(readdirSync(root)).toEqual([other]);
});

describe('makeDirectory', () => {
  it('says which directory it had to make first', () => {
    expect(makeDirectory(join(root, 'a', 'b', 'c'))).toBe(join(root, 'a'));
    expect(makeDirectory(join(root, 'a', 'b', 'c'))).toBeUndefined();
    expect(makeDirectory(join(root, 'a', 'd'))).toBe(join(root, 'a', 'd'));
  });

  it('says what is in the way', () => {
    writeFileSync(path, '');
    expect(() => makeDirectory(path)).toThrow(`cannot make the directory ${path}: a file is in the way (EEXIST).`);
    expect(() => makeDirectory(join(path, 'b'))).toThrow(/a part of the path is not a directory \(ENOTDIR\)/);
  });
});
