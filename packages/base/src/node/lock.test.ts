import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockOrRefuse, withLock } from './lock.js';

let root: string;
let directory: string;
const file = () => join(directory, '.lock');

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stickbreaking-lock-'));
  directory = join(root, 'a', 'b');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A lock as another process leaves it, last touched so many seconds ago. */
function leave(holder: { pid: number; host: string } | undefined, secondsAgo = 0): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(file(), holder ? JSON.stringify(holder) : '');
  const then = Date.now() / 1000 - secondsAgo;
  utimesSync(file(), then, then);
}

/** A process that lives until it is killed. */
function living() {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  return { pid: child.pid!, [Symbol.dispose]: () => child.kill('SIGKILL') };
}

const dead = () => spawnSync(process.execPath, ['-e', '']).pid;

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

  it('is told who has it, on this machine or another', () => {
    using other = living();
    leave({ pid: other.pid, host: hostname() }, 3600);
    const message = `Another process (${other.pid} on ${hostname()}) trains in ${directory}; wait for it, or choose another output.`;
    expect(() => lockOrRefuse(directory, 'trains')).toThrow(message);
    leave({ pid: 1, host: 'elsewhere' }, 60);
    expect(() => lockOrRefuse(directory, 'trains')).toThrow('Another process (1 on elsewhere)');
  });

  it.each([
    ['killed', () => leave({ pid: dead(), host: hostname() })],
    ['of another machine and silent for long', () => leave({ pid: 1, host: 'elsewhere' }, 3600)],
    ['of the number that this process has now', () => leave({ pid: process.pid, host: hostname() })],
    ['killed while it wrote its lock', () => leave(undefined)],
  ])('takes it over from one %s', (_, left) => {
    left();
    lockOrRefuse(directory, 'trains')();
    expect(existsSync(file())).toBe(false);
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

  it.each([
    ['killed', () => leave({ pid: dead(), host: hostname() })],
    ['silent for long', () => leave({ pid: process.pid, host: hostname() }, 120)],
    ['cut short long ago', () => leave(undefined, 120)],
  ])('takes it over from one %s', async (_, left) => {
    left();
    expect(await withLock(directory, {}, async () => 'done')).toBe('done');
    expect(existsSync(file())).toBe(false);
  });

  it('gives it back where the work fails', async () => {
    const work = () => Promise.reject(new Error('no'));
    await expect(withLock(directory, {}, work)).rejects.toThrow('no');
    expect(existsSync(join(root, 'a'))).toBe(false);
  });
});
