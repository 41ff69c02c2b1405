// One process at a time trains in a run's directory. The lock is a file with its holder's process id, touched while the
// holder lives; what a killed process left behind is taken over.
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
import { explainSystemError, UserError } from '@stickbreaking/core';

const TOUCH_MS = 10_000;
/** A holder on another machine that has not touched its lock for so long is gone. */
const STALE_MS = 600_000;

interface Holder {
  pid: number;
  host: string;
}

/**
 * Takes the directory for this process and returns what gives it back; directories that had to be made for it are
 * removed again where nothing came into them.
 *
 * @throws UserError where another process trains there, or nothing can be written
 */
export function lockRun(directory: string): () => void {
  const path = join(directory, '.lock');
  let made: string | undefined;
  try {
    made = mkdirSync(directory, { recursive: true });
    if (!acquire(path)) {
      const holder = readHolder(path);
      if (holder && !isGone(holder, path)) {
        throw new UserError(
          `Another process (${holder.pid} on ${holder.host}) trains in ${directory}; wait for it, or choose another output.`,
        );
      }
      rmSync(path, { force: true });
      if (!acquire(path)) throw new UserError(`Another process has just begun to train in ${directory}.`);
    }
  } catch (error) {
    throw explainSystemError(error, `cannot write to ${directory}`);
  }
  const timer = setInterval(() => touch(path), TOUCH_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    rmSync(path, { force: true });
    if (made) removeEmpty(resolve(directory), resolve(made));
  };
}

function removeEmpty(directory: string, upTo: string): void {
  try {
    for (let path = directory; path.length >= upTo.length; path = dirname(path)) rmdirSync(path);
  } catch {
    // not empty
  }
}

function acquire(path: string): boolean {
  try {
    const file = openSync(path, 'wx');
    writeSync(file, JSON.stringify({ pid: process.pid, host: hostname() } satisfies Holder));
    closeSync(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder;
  } catch {
    return undefined; // gone, or cut short by a crash
  }
}

function isGone({ pid, host }: Holder, path: string): boolean {
  if (host !== hostname()) {
    return Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > STALE_MS;
  }
  // In a container that was started again, the process of the same number is this one.
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EPERM';
  }
  return isZombie(pid);
}

/** Killed, but not yet waited for by its parent, which in a container may be never. */
function isZombie(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return status.slice(status.lastIndexOf(')') + 2).startsWith('Z');
  } catch {
    return false; // no Linux
  }
}

function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // taken away; the run goes on all the same
  }
}
