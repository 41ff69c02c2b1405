// A directory's lock: the file `.lock` with its holder's process id, touched while the holder lives. Who finds it taken
// decides whether to wait (a preparation) or to refuse (a training run), and when a holder counts as gone.
import { closeSync, openSync, readFileSync, rmdirSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';

export interface LockHolder {
  pid: number;
  host: string;
}

const pathOf = (directory: string) => join(directory, '.lock');

/**
 * Takes the lock and keeps it, touching it every so many milliseconds, which keeps no process alive. Returns what gives
 * it back; undefined where another has it.
 *
 * @throws a system error where nothing can be written
 */
export function takeLock(directory: string, touchEveryMs: number): (() => void) | undefined {
  const path = pathOf(directory);
  try {
    const file = openSync(path, 'wx');
    writeSync(file, JSON.stringify({ pid: process.pid, host: hostname() } satisfies LockHolder));
    closeSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
    throw error;
  }
  const timer = setInterval(() => touch(path), touchEveryMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    removeLock(directory);
  };
}

function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // taken away; the work goes on all the same
  }
}

/** Takes the file away, whoever's it is. */
export const removeLock = (directory: string) => rmSync(pathOf(directory), { force: true });

/** undefined where there is none, or one that is just being written or was cut short by a crash. */
export function lockHolder(directory: string): LockHolder | undefined {
  try {
    return JSON.parse(readFileSync(pathOf(directory), 'utf8')) as LockHolder;
  } catch {
    return undefined;
  }
}

/** Milliseconds since the holder touched it; undefined where it is gone. */
export function lockAge(directory: string): number | undefined {
  const file = statSync(pathOf(directory), { throwIfNoEntry: false });
  return file && Date.now() - file.mtimeMs;
}

/** Whether a process of this machine lives. One that was killed and not yet waited for by its parent does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return !isZombie(pid);
}

/** In a container a killed process may never be waited for. */
function isZombie(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return status.slice(status.lastIndexOf(')') + 2).startsWith('Z');
  } catch {
    return false; // no Linux
  }
}

/** Removes the directory and those around it up to `made`, what `mkdir` says was made, as far as they are empty. */
export function removeMade(directory: string, made: string | undefined): void {
  if (made === undefined) return;
  const upTo = resolve(made).length;
  try {
    for (let path = resolve(directory); path.length >= upTo; path = dirname(path)) rmdirSync(path);
  } catch {
    // not empty
  }
}
