/**
 * The file `.lock` of a directory. Whoever holds the system's lock on it (flock) has the directory, and what the file says
 * is for people. Where the file system has no such locks, the file's being there is the lock, and it is held by the
 * process that it names as long as that lives.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { explainSystemError, systemErrorIn } from '../errors.js';
import { makeDirectory } from './files.js';
import { flock } from './flock.js';
import { isGone, type LockHolder, ownHolder, parseHolder } from './holder.js';

export type Lock = { taken: true; release(): void } | { taken: false; holder: LockHolder | undefined };

export const lockPath = (directory: string) => join(directory, '.lock');

/** Where only the file's being there locks: how often a holder touches it, and when one of another machine is gone. */
const TOUCH_MS = 10_000;
const SILENT_MS = 600_000;
/** A file without a holder is being written, or was left by a crash. */
const WRITING_MS = 5_000;

/**
 * Takes a directory's lock, unless another has it. The directory is made where it is not there; what had to be made is
 * removed again on release, as far as nothing came into it.
 *
 * @param system the system's lock; another one in tests
 * @throws UserError where nothing can be written there
 */
export function takeLock(directory: string, system: typeof flock = flock): Lock {
  let made: string | undefined;
  for (let attempt = 1; ; attempt++) {
    try {
      made = makeDirectory(directory) ?? made;
      const taken = takeFile(lockPath(directory), system);
      if (!('release' in taken)) return { taken: false, holder: taken.holder };
      const release = () => {
        taken.release();
        removeMade(directory, made);
      };
      return { taken: true, release };
    } catch (error) {
      const cause = systemErrorIn(error);
      // A holder that left the directory empty may have removed it just now.
      const isRemoved = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isRemoved || attempt === 10) throw explainSystemError(cause, `cannot write to ${directory}`);
    }
  }
}

type TakenFile = { release(): void } | { holder: LockHolder | undefined };

function takeFile(path: string, system: typeof flock): TakenFile {
  for (;;) {
    const { file, isOurs } = open(path);
    if (file === undefined) continue; // removed between two looks
    const answer = system(file);
    if (answer === 'taken' && isAt(path, file)) {
      write(file);
      // Removed before it is given back: whoever opened it meanwhile finds that it is no longer at its place.
      return { release: () => [remove(path), closeSync(file)] };
    }
    if (answer === 'unsupported' && isOurs) {
      write(file);
      closeSync(file);
      return { release: holdByPresence(path) };
    }
    closeSync(file);
    if (answer === 'taken') continue; // of a file that its holder has removed
    const standing = look(path);
    if (answer === 'held' || (standing && !isLeft(standing))) return { holder: standing?.holder };
    if (!removeLeft(path)) return { holder: standing?.holder };
  }
}

/** The file, made where it is not there. */
function open(path: string): { file: number | undefined; isOurs: boolean } {
  for (const [flag, isOurs] of [
    ['wx+', true],
    ['r+', false],
  ] as const) {
    try {
      return { file: openSync(path, flag), isOurs };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== (isOurs ? 'EEXIST' : 'ENOENT')) throw error;
    }
  }
  return { file: undefined, isOurs: false };
}

interface StandingLock {
  holder: LockHolder | undefined;
  /** Milliseconds since the holder touched it. */
  age: number;
}

function look(path: string): StandingLock | undefined {
  try {
    return { holder: parseHolder(readFileSync(path, 'utf8')), age: Date.now() - statSync(path).mtimeMs };
  } catch {
    return undefined; // removed just now
  }
}

/** Whether a lock that only its presence makes was left by a process that is gone. */
const isLeft = ({ holder, age }: StandingLock) => (holder ? isGone(holder) || age > SILENT_MS : age > WRITING_MS);

const guardOf = (path: string) => `${path}.taking`;

/**
 * Removes what a process left that is gone, one taker at a time: another one, which saw the same file, must not remove
 * what the first has put in its place.
 *
 * @returns false while another taker is at it
 */
function removeLeft(path: string): boolean {
  const guard = guardOf(path);
  try {
    mkdirSync(guard);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const stats = statSync(guard, { throwIfNoEntry: false });
    if (!stats || Date.now() - stats.mtimeMs <= WRITING_MS) return false;
    removeGuard(path); // left by a taker that was killed just there
    return true;
  }
  const standing = look(path);
  if (standing && isLeft(standing)) remove(path);
  removeGuard(path);
  return true;
}

function removeGuard(path: string): void {
  try {
    rmdirSync(guardOf(path));
  } catch {
    // there is none
  }
}

/** Touches the file while it is held, for those on other machines. @returns what gives it back */
function holdByPresence(path: string): () => void {
  const timer = setInterval(() => touch(path), TOUCH_MS);
  timer.unref(); // it keeps no process alive
  return () => {
    clearInterval(timer);
    removeGuard(path);
    remove(path);
  };
}

const remove = (path: string) => rmSync(path, { force: true });

/** Whether an open file is still the one at its path. */
function isAt(path: string, file: number): boolean {
  const [there, open] = [statSync(path, { throwIfNoEntry: false }), fstatSync(file)];
  return there?.ino === open.ino && there.dev === open.dev;
}

function write(file: number): void {
  ftruncateSync(file);
  writeSync(file, `${JSON.stringify(ownHolder())}\n`, 0);
}

function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // taken away; the work goes on all the same
  }
}

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
