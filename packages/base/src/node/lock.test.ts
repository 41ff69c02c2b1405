import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { lockOrRefuse, withLock } from './lock.js';
import { takeLock } from './lock_file.js';

let root: string;
let directory: string;
const file = () => join(directory, '.lock');

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stickbreaking-lock-'));
  directory = join(root, 'a', 'b');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A lock's file as another process leaves it, last touched so many seconds ago. */
function leave(content: string, secondsAgo = 0): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(file(), content);
  const then = Date.now() / 1000 - secondsAgo;
  utimesSync(file(), then, then);
}

const holder = (rest: object) => JSON.stringify({ pid: process.pid, host: hostname(), ...rest });

/** Another process that holds the directory's lock until it is killed. */
async function holding() {
  const base = new URL('../../dist/node/index.js', import.meta.url).href;
  const work = `import { lockOrRefuse } from ${JSON.stringify(base)};
    lockOrRefuse(process.argv[1], 'trains');
    console.log('holds');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', work, directory], { stdio: 'pipe' });
  await once(child.stdout, 'data');
  const end = async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return { pid: child.pid!, end };
}

const dead = () => spawnSync(process.execPath, ['-e', '']).pid;
const without = () => 'unsupported' as const;

describe('who is refused', () => {
  it('takes the directory, gives it back, and leaves no empty directories', () => {
    const release = lockOrRefuse(directory, 'trains');
    expect(existsSync(file())).toBe(true);
    release();
    expect(existsSync(join(root, 'a'))).toBe(false);
  });

  it('keeps what came into a directory that it made', () => {
    const release = lockOrRefuse(directory, 'trains');
    writeFileSync(join(directory, 'result'), '');
    release();
    expect(existsSync(join(directory, 'result'))).toBe(true);
    expect(existsSync(file())).toBe(false);
  });

  it('is told who has it and by which file, until that process ends, however it does', async () => {
    const other = await holding();
    const named = `Another process (${other.pid} on ${hostname()}, since `;
    expect(() => lockOrRefuse(directory, 'trains')).toThrow(named);
    expect(() => lockOrRefuse(directory, 'trains')).toThrow(`trains in ${directory} and holds ${file()}; wait for it`);
    await other.end();
    expect(existsSync(file())).toBe(true);
    lockOrRefuse(directory, 'trains')();
    expect(existsSync(file())).toBe(false);
  });

  it('is refused within its own process too', () => {
    const release = lockOrRefuse(directory, 'trains');
    expect(() => lockOrRefuse(directory, 'trains')).toThrow(`Another process (${process.pid} on`);
    release();
    lockOrRefuse(directory, 'trains')();
  });

  it.each([
    ['says nothing', () => leave('')],
    ['says nothing that makes sense', () => leave('{}')],
    ['is no JSON', () => leave('{"pid": 1')],
    ['names a process that was killed', () => leave(holder({ pid: dead() }))],
    ['names a process number that another program has now', () => leave(holder({ pid: process.ppid }))],
    ['names this process’s own number', () => leave(holder({}))],
    ['names another machine', () => leave(holder({ host: 'elsewhere' }))],
  ])('takes over a file that nobody holds and that %s', (_, left) => {
    left();
    lockOrRefuse(directory, 'trains')();
    expect(existsSync(file())).toBe(false);
  });

  it('takes over a link to nothing, and removes what a taker left that was killed', () => {
    mkdirSync(directory, { recursive: true });
    symlinkSync('/nowhere/at/all', file());
    writeFileSync(`${file()}.${dead()}-0123abcd.tmp`, '');
    const release = lockOrRefuse(directory, 'trains');
    expect(readdirSync(directory)).toEqual(['.lock']);
    release();
    expect(readdirSync(directory)).toEqual([]);
  });

  it.each([
    ['a directory', 'a directory', () => mkdirSync(file(), { recursive: true })],
    [
      'a link to a device',
      'no file',
      () => {
        mkdirSync(directory, { recursive: true });
        symlinkSync('/dev/null', file());
      },
    ],
  ])('names %s that stands where the file belongs', (_, what, put) => {
    put();
    for (const system of [undefined, without])
      expect(() => takeLock(directory, system)).toThrow(
        `${file()} is ${what}, where the file of a lock belongs; remove`,
      );
    expect(readdirSync(directory)).toEqual(['.lock']);
  });

  it('names a file that stands where takers keep each other off', () => {
    leave('');
    const guard = `${file()}.taking`;
    writeFileSync(guard, '');
    utimesSync(guard, 0, 0);
    expect(() => takeLock(directory, without)).toThrow(`cannot remove ${guard}: a part of the path is not a directory`);
  });

  it('says in one line that nothing can be written there', () => {
    writeFileSync(join(root, 'a'), '');
    expect(() => lockOrRefuse(directory, 'trains')).toThrow(/^cannot write to [^\n]*\(ENOTDIR\)\.$/);
  });
});

describe('who waits', () => {
  it('is told once whom for, and goes on when it is given back', async () => {
    const release = lockOrRefuse(directory, 'works');
    const holders: number[] = [];
    const waiting = withLock(directory, { onWait: (pid) => holders.push(pid) }, async () => existsSync(file()));
    await new Promise((resolve) => setTimeout(resolve, 250));
    release();
    expect(await waiting).toBe(true);
    expect(holders).toEqual([process.pid]);
    expect(existsSync(join(root, 'a'))).toBe(false);
  });

  it('stops waiting for its signal', async () => {
    const release = lockOrRefuse(directory, 'works');
    const stop = new AbortController();
    const waiting = withLock(directory, { signal: stop.signal }, async () => {});
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    release();
  });

  it('goes on when the process that has it is killed', async () => {
    const other = await holding();
    const holders: number[] = [];
    const waiting = withLock(directory, { onWait: (pid) => holders.push(pid) }, async () => 'done');
    await new Promise((resolve) => setTimeout(resolve, 150));
    await other.end();
    expect(await waiting).toBe('done');
    expect(holders).toEqual([other.pid]);
  });

  it('gives it back where the work fails', async () => {
    const work = () => Promise.reject(new Error('no'));
    await expect(withLock(directory, {}, work)).rejects.toThrow('no');
    expect(existsSync(join(root, 'a'))).toBe(false);
  });
});

describe('on a file system without locks', () => {
  it('the file’s being there is the lock', () => {
    const lock = takeLock(directory, without);
    expect(lock.taken).toBe(true);
    expect(takeLock(directory, without)).toMatchObject({ taken: false, holder: { pid: process.pid } });
    if (lock.taken) lock.release();
    expect(existsSync(join(root, 'a'))).toBe(false);
  });

  it.each([
    ['a process that lives', () => leave(holder({})), 0],
    ['one of another machine', () => leave(holder({ host: 'elsewhere' }), 60), 0],
  ])('stays with %s', (_, left) => {
    left();
    expect(takeLock(directory, without).taken).toBe(false);
  });

  it.each([
    ['a process that was killed', () => leave(holder({ pid: dead() }))],
    ['another start of the machine', () => leave(holder({ boot: 'another' }))],
    ['a process whose number another program has now', () => leave(holder({ pid: process.pid, start: '1' }))],
    ['one of another machine, silent for long', () => leave(holder({ host: 'elsewhere' }), 3600)],
    ['whoever was killed while writing it', () => leave('')],
    ['a link to nothing', () => [mkdirSync(directory, { recursive: true }), symlinkSync('/nowhere/at/all', file())]],
  ])('is taken over from %s', (_, left) => {
    left();
    const lock = takeLock(directory, without);
    expect(lock.taken).toBe(true);
    if (lock.taken) lock.release();
  });

  it('is taken over by one of two that saw the same file', () => {
    leave(holder({ pid: dead() }));
    // The first comes and goes through while the second, which has read the file, asks how old it is.
    let first: ReturnType<typeof takeLock> | undefined;
    const clock = vi.spyOn(Date, 'now').mockImplementationOnce(() => {
      first = takeLock(directory, without);
      return performance.timeOrigin + performance.now();
    });
    const second = takeLock(directory, without);
    clock.mockRestore();
    expect(first!.taken).toBe(true);
    expect(second).toMatchObject({ taken: false, holder: { pid: process.pid } });
    if (first?.taken) first.release();
  });

  it('is not taken while another taker is at it, unless that was killed', () => {
    leave(holder({ pid: dead() }));
    mkdirSync(`${file()}.taking`);
    expect(takeLock(directory, without).taken).toBe(false);
    utimesSync(`${file()}.taking`, 1, 1);
    const lock = takeLock(directory, without);
    expect(lock.taken).toBe(true);
    expect(existsSync(`${file()}.taking`)).toBe(false);
    if (lock.taken) lock.release();
  });
});
