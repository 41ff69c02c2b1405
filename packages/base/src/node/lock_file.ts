/**
 * The file `.lock` of a directory. Whoever holds the system's lock on it (flock) has the directory, and what the file says
 * is for people. Where the file system has no such locks, the file's being there is the lock, and it is held by the
 * process that it names as long as that lives.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
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
import { explainSystemError, systemErrorIn, UserError } from '../errors.js';
import { makeDirectory, removeLeftovers, temporaryBeside } from './files.js';
import { flock } from './flock.js';
import { isGone, type LockHolder, ownHolder, parseHolder } from './holder.js';

export type Lock = { taken: true; release(): void } | { taken: false; holder: LockHolder | undefined };

export const lockPath = (directory: string) => join(directory, '.lock');

/** Where only the file's being there locks: how often a holder touches it, and when one of another machine is gone. */
const TOUCH_MS = 10_000;
const SILENT_MS = 600_000;
/** Without links a file that names nobody may be being written, or was left by a crash. */
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
      removeLeftovers(directory, 'the dead');
      const release = () => {
        taken.release();
        removeMade(directory, made);
      };
      return { taken: true, release };
    } catch (error) {
      const cause = systemErrorIn(error) as NodeJS.ErrnoException;
      // A holder that left the directory empty may have removed it just now.
      const isRemoved = cause.code === 'ENOENT';
      if (!isRemoved || attempt === 10) throw explainSystemError(cause, actionIn(directory, cause));
    }
  }
}

/** Names the lock's own files where they are what is wrong. */
function actionIn(directory: string, { path, syscall }: NodeJS.ErrnoException): string {
  const own = [lockPath(directory), guardOf(lockPath(directory))];
  if (path === undefined || !own.includes(path)) return `cannot write to ${directory}`;
  return `cannot ${syscall === 'rmdir' ? 'remove' : 'lock'} ${path}`;
}

/** The process that works in a directory, as far as its lock's file says; undefined where none does. Changes nothing. */
export function holderOf(directory: string): LockHolder | undefined {
  const holder = look(lockPath(directory))?.holder;
  return holder && !isGone(holder) ? holder : undefined;
}

type TakenFile = { release(): void } | { holder: LockHolder | undefined };

function takeFile(path: string, system: typeof flock): TakenFile {
  const own = ownFile(path, system);
  try {
    for (;;) {
      const answer = own.putAt(path) ?? takeStanding(path, system, own);
      if (answer) return answer;
    }
  } finally {
    own.discard();
  }
}

/** The lock's file, made whole and locked beside its place, so that nobody ever sees half of it. */
interface OwnFile {
  /** Undefined where a file stands there. */
  putAt(path: string): TakenFile | undefined;
  /** Whether its file system can put a file at a place that is empty, at once. */
  canLink(): boolean;
  /** Ends it, unless it has been put at its place. */
  discard(): void;
}

function ownFile(path: string, system: typeof flock): OwnFile {
  const beside = temporaryBeside(path);
  const file = openSync(beside, 'wx+');
  let isOpen = true;
  const close = () => {
    if (isOpen) closeSync(file);
    isOpen = false;
  };
  try {
    const isLocked = system(file) === 'taken';
    write(file, isLocked);
    return {
      putAt: () => {
        if (!isPut(beside, path)) return undefined;
        if (isLocked) {
          isOpen = false; // until it is given back
          return { release: () => [remove(path), closeSync(file)] };
        }
        return { release: holdByPresence(path) };
      },
      canLink: () => {
        const probe = temporaryBeside(path);
        const can = isLinked(beside, probe);
        remove(probe);
        return can === true;
      },
      discard: () => {
        close();
        remove(beside);
      },
    };
  } catch (error) {
    close();
    remove(beside);
    throw error;
  }
}

/** Puts a file at a place that is empty; false where it is not. */
function isPut(from: string, to: string): boolean {
  const linked = isLinked(from, to);
  if (linked !== undefined) return linked;
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Undefined where the file system has no links. */
function isLinked(from: string, to: string): boolean | undefined {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EROFS' || code === 'ENOSPC') throw error;
    return undefined;
  }
}

/** Takes the file that stands there, or says who has it; undefined where the place is empty by now. */
function takeStanding(path: string, system: typeof flock, own: OwnFile): TakenFile | undefined {
  const file = openStanding(path);
  if (file === undefined) return undefined;
  const answer = system(file);
  if (answer === 'taken' && isAt(path, file)) {
    write(file, true);
    // Removed before it is given back: whoever opened it meanwhile finds that it is no longer at its place.
    return { release: () => [remove(path), closeSync(file)] };
  }
  closeSync(file);
  if (answer === 'taken') return undefined; // of a file that its holder has removed
  const standing = look(path);
  const held = { holder: standing?.holder };
  if (answer === 'held') return held;
  const canLink = own.canLink();
  if (standing && !isLeft(standing, canLink)) return held;
  return removeLeft(path, canLink) ? undefined : held;
}

/** Undefined where it is not there. */
function openStanding(path: string): number | undefined {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats && !stats.isFile()) {
      const what = stats.isDirectory() ? 'a directory' : 'no file';
      throw new UserError(`${path} is ${what}, where the file of a lock belongs; remove it.`);
    }
    return openSync(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    // A link that leads to nothing is held by nobody.
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) remove(path);
    return undefined;
  }
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

/**
 * Whether a lock that only its presence makes was left by a process that is gone. Where files are put there whole, one that
 * names nobody is never being written.
 */
function isLeft({ holder, age }: StandingLock, isWhole: boolean): boolean {
  return holder ? isGone(holder) || age > SILENT_MS : isWhole || age > WRITING_MS;
}

const guardOf = (path: string) => `${path}.taking`;

/**
 * Removes what a process left that is gone, one taker at a time: another one, which saw the same file, must not remove
 * what the first has put in its place.
 *
 * @returns false while another taker is at it
 */
function removeLeft(path: string, isWhole: boolean): boolean {
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
  if (standing && isLeft(standing, isWhole)) remove(path);
  removeGuard(path);
  return true;
}

function removeGuard(path: string): void {
  try {
    rmdirSync(guardOf(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw error; // what stands there would be met for ever
  }
}

/** Touches the file while it is held, for those on other machines. @returns what gives it back */
function holdByPresence(path: string): () => void {
  const timer = setInterval(() => touch(path), TOUCH_MS);
  timer.unref(); // it keeps no process alive
  return () => {
    clearInterval(timer);
    remove(path);
  };
}

const remove = (path: string) => rmSync(path, { force: true });

/** Whether an open file is still the one at its path. */
function isAt(path: string, file: number): boolean {
  const [there, open] = [statSync(path, { throwIfNoEntry: false }), fstatSync(file)];
  return there?.ino === open.ino && there.dev === open.dev;
}

/** @param isLocked by the system, so that what it says is only for people, and a full disk is not in the way */
function write(file: number, isLocked: boolean): void {
  try {
    ftruncateSync(file);
    writeSync(file, `${JSON.stringify(ownHolder())}\n`, 0);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!isLocked || (code !== 'ENOSPC' && code !== 'EDQUOT')) throw error;
  }
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
