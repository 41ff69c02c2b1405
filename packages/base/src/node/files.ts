/**
 * Files that survive a crash. A file is written under another name, flushed to the disk and renamed, so that a reader,
 * also after a crash, finds the old file or the new one and never half of one.
 */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { explainSystemError, UserError } from '../errors.js';
import { isAlive } from './process.js';

/** What a file is to hold: all of it, or what writes it piece by piece. */
export type Content = string | Uint8Array | ((write: (bytes: Uint8Array) => void) => void);

/**
 * Creates or replaces a file, atomically and durably: once this returns, the file survives a power cut. If it fails, no
 * temporary file is left. Through a link, the file that it leads to is replaced; a device or a pipe is written to.
 *
 * @param mode permissions, before the process's umask
 * @throws UserError if the disk is full or not writable; whatever `content` throws
 */
export function replaceFile(path: string, content: Content, { mode = 0o666 } = {}): void {
  const action = `cannot write ${path}`;
  const target = targetOf(path, action);
  if (target === undefined) {
    writeInto(path, 'w', content, action);
    return;
  }
  const beside = temporaryBeside(target);
  try {
    writeInto(beside, 'wx', content, action, mode);
    renameSync(beside, target);
    syncDirectory(dirname(target));
  } catch (error) {
    removeIfPossible(beside);
    throw explainSystemError(error, action);
  }
}

/**
 * The same, by threads of the system's: what `content` does beside its writes goes on meanwhile. Of several writes each
 * has to begin after the one before it has ended.
 *
 * @param flushBytes after so many more the file is flushed while it grows, so that the disk does not wait for the last one
 */
export async function replaceFileAsync(
  path: string,
  content: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
  { mode = 0o666, flushBytes = 2 ** 28 } = {},
): Promise<void> {
  const action = `cannot write ${path}`;
  const target = targetOf(path, action);
  const beside = target === undefined ? undefined : temporaryBeside(target);
  try {
    const file = await open(beside ?? path, beside === undefined ? 'w' : 'wx', mode);
    let [unflushed, isFlushing, flushed] = [0, false, Promise.resolve()];
    // One that fails must be known of: the system does not tell the next one why.
    const flush = async () => {
      isFlushing = true;
      unflushed = 0;
      await file.datasync();
      isFlushing = false;
    };
    try {
      await content(async (bytes) => {
        await writeFullyAsync(file, bytes);
        unflushed += bytes.length;
        if (beside === undefined || isFlushing || unflushed < flushBytes) return;
        flushed = flush();
        flushed.catch(() => {}); // awaited below
      });
      await flushed;
      if (beside !== undefined) await file.sync();
    } finally {
      await file.close();
    }
    if (beside === undefined) return;
    renameSync(beside, target!);
    syncDirectory(dirname(target!));
  } catch (error) {
    if (beside !== undefined) removeIfPossible(beside);
    throw explainSystemError(error, action);
  }
}

/**
 * Writes what a user named with an option such as `--output`, making its folder where there is none yet.
 *
 * @throws UserError as `replaceFile` and `makeDirectory` do
 */
export function writeOutput(path: string, content: Content): void {
  makeDirectory(dirname(path));
  replaceFile(path, content);
}

/** Where it is not, the error that led here says more. */
function removeIfPossible(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // its directory is none, or went away
  }
}

/** The file that is to be replaced; undefined where a device or a pipe is in its place, which a rename would destroy. */
function targetOf(path: string, action: string): string | undefined {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats || stats.isDirectory()) return path;
    return stats.isFile() ? realpathSync(path) : undefined;
  } catch (error) {
    throw explainSystemError(error, action);
  }
}

function writeInto(path: string, flags: 'w' | 'wx', content: Content, action: string, mode?: number): void {
  try {
    const file = openSync(path, flags, mode);
    try {
      if (typeof content === 'function') content((bytes) => writeFully(file, bytes));
      else writeFully(file, typeof content === 'string' ? Buffer.from(content) : content);
      if (flags === 'wx') fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw explainSystemError(error, action);
  }
}

/** A new name for a file of this process that is to take another's place, or is of no more use when the process ends. */
export const temporaryBeside = (path: string) => `${path}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;

const leftover = /\.(\d+)-[0-9a-f]{8}\.tmp$/;

/** Whether a file has such a name: it is nobody's content, though its process may have been killed before it took it away. */
export const isLeftover = (name: string) => leftover.test(name);

/**
 * Removes the temporary files left in a directory by processes that were killed while replacing a file.
 *
 * @param whose `anyone`: also of a process that seems to live, where a lock keeps others from writing here
 */
export function removeLeftovers(directory: string, whose: 'the dead' | 'anyone'): void {
  for (const name of readdirSync(directory)) {
    const pid = leftover.exec(name)?.[1];
    if (pid !== undefined && (whose === 'anyone' || !isAlive(Number(pid))))
      rmSync(join(directory, name), { force: true });
  }
}

/** Writes all of it: a single `write` may stop short (at 2 GiB, or when the disk is nearly full). */
export function writeFully(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(file, bytes, done, Math.min(2 ** 30, bytes.length - done));
}

/** The same, by a thread of the system's; from where the file's last write ended, or at a position in bytes. */
export async function writeFullyAsync(file: FileHandle, bytes: Uint8Array, position?: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const length = Math.min(2 ** 30, bytes.length - done);
    const at = position === undefined ? null : position + done;
    done += (await file.write(bytes, done, length, at)).bytesWritten;
  }
}

/**
 * Makes what was renamed or made in a directory survive a power cut. Windows cannot open a directory, and does not need
 * it; where a directory may be written to and not read, or its file system flushes none, there is no way to.
 */
export function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return;
  try {
    syncPath(directory);
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EINVAL', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code!)) throw error;
  }
}

/** Flushes every file that lies in a directory, and then the directory itself. */
export function syncDirectoryWithFiles(directory: string): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (statSync(path).isFile()) syncPath(path);
  }
  syncDirectory(directory);
}

function syncPath(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } catch (error) {
    throw Object.assign(error as Error, { path }); // the system names none where it was given an open file
  } finally {
    closeSync(file);
  }
}

/**
 * Makes a directory and what it stands in, where they are not there yet, durably. Node's own recursive way hides a read-only file
 * system behind ENOENT.
 *
 * @returns the first directory that had to be made
 * @throws UserError if it cannot be made
 */
export function makeDirectory(path: string): string | undefined {
  try {
    return make(path);
  } catch (error) {
    throw explainSystemError(error, `cannot make the directory ${path}`);
  }
}

/**
 * Whether a directory can be made at a path, or is there, without making it: nothing else may stand in its way.
 *
 * @throws UserError that says what does
 */
export function checkDirectory(path: string): void {
  const action = `cannot make the directory ${path}`;
  try {
    for (let at = resolve(path); ; at = dirname(at)) {
      if (!lstatSync(at, { throwIfNoEntry: false })) continue;
      if (!statSync(at, { throwIfNoEntry: false })?.isDirectory())
        throw new UserError(`${action}: ${at} is no directory.`);
      accessSync(at, constants.W_OK);
      return;
    }
  } catch (error) {
    throw explainSystemError(error, action);
  }
}

function make(path: string): string | undefined {
  try {
    return makeOne(path);
  } catch (error) {
    const around = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || around === path) throw error;
    const first = make(around);
    return [first, makeOne(path)].find((made) => made !== undefined);
  }
}

/** Undefined where it is there already. */
function makeOne(path: string): string | undefined {
  try {
    mkdirSync(path);
    syncDirectory(dirname(path));
    return path;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && statSync(path).isDirectory()) return undefined;
    throw error;
  }
}
