/** The file `.lock` of a directory, with its holder's process id, touched while the holder lives. */
import { closeSync, openSync, readFileSync, rmdirSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { explainSystemError, systemErrorIn } from '../errors.js';
import { makeDirectory } from './files.js';

export interface LockHolder {
  pid: number;
  host: string;
}

/** A lock that somebody holds. */
export interface StandingLock {
  /** Undefined if it is being written at the moment, or was truncated by a crash. */
  holder: LockHolder | undefined;
  /** Milliseconds since the holder touched it. */
  age: number;
}

export interface LockPolicy {
  touchEveryMs: number;
  /** Whether the holder of a lock is gone, so that the lock may be taken over. */
  isGone(lock: StandingLock): boolean;
}

export type Lock = { taken: true; release(): void } | { taken: false; holder: LockHolder | undefined };

const pathOf = (directory: string) => join(directory, '.lock');

/**
 * Takes a directory's lock, unless another has it. The directory is made where it is not there; what had to be made is
 * removed again on release, as far as nothing came into it.
 *
 * @throws UserError where nothing can be written there
 */
export function takeLock(directory: string, policy: LockPolicy): Lock {
  let made: string | undefined;
  for (let attempt = 1; ; attempt++) {
    try {
      made = makeDirectory(directory) ?? made;
      if (!create(directory)) {
        const standing = read(directory);
        if (standing && !policy.isGone(standing)) return { taken: false, holder: standing.holder };
        remove(directory);
        if (!create(directory)) return { taken: false, holder: read(directory)?.holder };
      }
      break;
    } catch (error) {
      const cause = systemErrorIn(error);
      // A holder that left the directory empty may have removed it just now.
      const isRemoved = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isRemoved || attempt === 10) throw explainSystemError(cause, `cannot write to ${directory}`);
    }
  }
  const timer = setInterval(() => touch(directory), policy.touchEveryMs);
  timer.unref(); // it keeps no process alive
  const release = () => {
    clearInterval(timer);
    remove(directory);
    removeMade(directory, made);
  };
  return { taken: true, release };
}

/** False where it stands already. */
function create(directory: string): boolean {
  let file: number;
  try {
    file = openSync(pathOf(directory), 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  writeSync(file, JSON.stringify({ pid: process.pid, host: hostname() } satisfies LockHolder));
  closeSync(file);
  return true;
}

function read(directory: string): StandingLock | undefined {
  const file = statSync(pathOf(directory), { throwIfNoEntry: false });
  return file && { holder: holderOf(directory), age: Date.now() - file.mtimeMs };
}

function holderOf(directory: string): LockHolder | undefined {
  try {
    return JSON.parse(readFileSync(pathOf(directory), 'utf8')) as LockHolder;
  } catch {
    return undefined;
  }
}

function touch(directory: string): void {
  try {
    utimesSync(pathOf(directory), new Date(), new Date());
  } catch {
    // taken away; the work goes on all the same
  }
}

const remove = (directory: string) => rmSync(pathOf(directory), { force: true });

/** Removes the directory and those around it up to `made`, what `mkdir` says was made, as far as they are empty. */
function removeMade(directory: string, made: string | undefined): void {
  if (made === undefined) return;
  const upTo = resolve(made).length;
  try {
    for (let path = resolve(directory); path.length >= upTo; path = dirname(path)) rmdirSync(path);
  } catch {
    // not empty
  }
}
