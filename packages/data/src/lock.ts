// One process at a time prepares a directory; a second one waits and then finds the work done. The lock is a file
// with its holder's process id, touched every few seconds. It only saves work: should two processes ever hold it,
// both write the same bytes, each beside and renamed.
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { explain } from './errors.js';

const TOUCH_MS = 5_000;
const STALE_MS = 60_000;

export interface LockOptions {
  signal?: AbortSignal;
  /** told once, with the holder's process id */
  onWait?: (holder: number) => void;
}

/** Runs `work` while holding the directory's lock. Directories it had to make are removed again if left empty. */
export async function withLock<T>(directory: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const path = join(directory, '.lock');
  let made: string | undefined;
  let told = false;
  for (;;) {
    try {
      made = mkdirSync(directory, { recursive: true }) ?? made;
      if (acquire(path)) break;
    } catch (error) {
      // The directory may have been removed by a holder that left it empty.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw explain(error, `cannot write to ${directory}`);
    }
    options.signal?.throwIfAborted();
    const holder = readHolder(path);
    if (holder && !told) options.onWait?.(holder.pid);
    told ||= holder !== undefined;
    if (isStale(path, holder)) rmSync(path, { force: true });
    else await sleep(100);
  }
  const timer = setInterval(() => touch(path), TOUCH_MS);
  timer.unref();
  try {
    return await work();
  } finally {
    clearInterval(timer);
    rmSync(path, { force: true });
    if (made) removeEmpty(resolve(directory), resolve(made));
  }
}

function acquire(path: string): boolean {
  try {
    const fd = openSync(path, 'wx');
    writeSync(fd, JSON.stringify({ pid: process.pid, host: hostname() }));
    closeSync(fd);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function readHolder(path: string): { pid: number; host: string } | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined; // gone, or just being written
  }
}

function isStale(path: string, holder: { pid: number; host: string } | undefined): boolean {
  const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (age > STALE_MS) return true;
  return holder !== undefined && holder.host === hostname() && !isAlive(holder.pid);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // taken away; the work goes on all the same
  }
}

function removeEmpty(directory: string, upTo: string): void {
  try {
    for (let path = directory; path.length >= upTo.length; path = dirname(path)) rmdirSync(path);
  } catch {
    // not empty
  }
}
