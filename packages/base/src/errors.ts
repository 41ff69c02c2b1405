/** Mistakes that a user can fix (a missing file, a damaged archive, a full disk), reported in one line. */

import { EXIT } from './exit_codes.js';
import { shown } from './shown.js';

/** What a `UserError` may carry beside its message. */
export interface UserErrorOptions extends ErrorOptions {
  missing?: boolean;
  exitCode?: number;
}

/**
 * A mistake in what the user gave: `message` is one line that says what, where, and what to do. The commands print it
 * alone, without a stack trace, and exit with its code; they know it by its name.
 */
export class UserError extends Error {
  override readonly name: string = 'UserError';
  /** Nothing is wrong but that something is not there (yet). */
  readonly missing: boolean;
  /** One of `EXIT`. */
  readonly exitCode: number;

  constructor(message: string, { missing = false, exitCode = EXIT.mistake, ...options }: UserErrorOptions = {}) {
    super(message, options);
    this.missing = missing;
    this.exitCode = exitCode;
  }
}

/** A value that an option of a command cannot have. */
export class OptionError extends UserError {
  /**
   * @param option as it is typed, such as `--limit`
   * @param value as it was given
   * @param expected what it could be instead, such as `a whole number above 0`
   */
  constructor(option: string, value: unknown, expected: string) {
    super(`${option} is ${value}; expected ${expected}.`, { exitCode: EXIT.usage });
  }
}

/** A device has not the memory that it was asked for. What would take less, its catcher may know. */
export class OutOfMemoryError extends UserError {}

const reasons: Record<string, string> = {
  ENOENT: 'there is no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EEXIST: 'a file is in the way',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of the path is not a directory',
  ENOSPC: 'the disk is full; free some space and run again',
  EDQUOT: 'the disk quota is used up; free some space and run again',
  EFBIG: 'the file would be larger than the system allows',
  EROFS: 'the file system is read-only',
  EMFILE: 'too many open files; raise the limit (ulimit -n)',
  EIO: 'input/output error, the disk may be failing',
  ELOOP: 'its symbolic links lead in a circle',
  ENAMETOOLONG: 'the name is too long',
  ENFILE: 'too many open files on this machine',
  ENXIO: 'there is no such device, or nobody at its other end',
  ENODEV: 'the device cannot do that',
  EBUSY: 'it is in use',
  ETXTBSY: 'it is a program that is running',
  ENOTEMPTY: 'the directory is not empty',
  EXDEV: 'the two are on different file systems',
  ENOMEM: 'the machine has no memory left',
  EAGAIN: 'the system has no room for it now; try again',
  ESTALE: 'the network file system has lost it; open it anew',
  ETIMEDOUT: 'the file system did not answer',
  EPIPE: 'nobody reads it any more',
  EINVAL: 'the file system cannot do that with it',
  EOVERFLOW: 'it is larger than the system can handle',
  ENOTSUP: 'the file system cannot do that',
  ENOSYS: 'the system cannot do that',
  ENOLCK: 'the file system has no locks left',
  ERR_INVALID_ARG_VALUE: 'a path cannot hold a NUL character',
  ERR_FS_FILE_TOO_LARGE: 'it is larger than can be read at once',
  ERR_STRING_TOO_LONG: 'it is larger than can be read at once',
};

/** Turns a system error into a UserError that says what was being done; any other error is returned unchanged. */
export function explainSystemError(error: unknown, action: string): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  const reason = reasons[code] ?? (isSystemError(error) ? 'the system refuses it' : undefined);
  if (reason === undefined) return error;
  const named = code.startsWith('ERR_') ? '' : ` (${code})`; // those are Node's, not the system's
  return new UserError(`${action}: ${reason}${named}.`, { cause: error, missing: code === 'ENOENT' });
}

/** What a library says of its input; undefined where the error speaks of the library's own code. */
export function reasonIn(error: unknown): string | undefined {
  const { name, message } = (error ?? {}) as Partial<Error>;
  const isOwn = name === undefined || /^(Type|Range|Reference|Syntax|Eval|Assertion)Error/.test(name);
  return isOwn || !message ? undefined : shown(message);
}

/** Says what was being done, where nothing nearer knew it: the system call and the path that the error itself names. */
export function actionOf(error: unknown): string {
  const { syscall, path, dest } = (error ?? {}) as NodeError;
  const did = syscall === undefined ? 'cannot go on' : `cannot ${doing[syscall] ?? syscall}`;
  return [did, path, dest === undefined ? undefined : `to ${dest}`].filter((part) => part !== undefined).join(' ');
}

interface NodeError {
  code?: unknown;
  syscall?: string;
  path?: string;
  dest?: string;
}

const doing: Record<string, string> = {
  scandir: 'list',
  mkdir: 'make the directory',
  mkdtemp: 'make a directory at',
  rmdir: 'remove the directory',
  unlink: 'remove',
  rm: 'remove',
  fsync: 'flush',
  ftruncate: 'shorten',
  lstat: 'look at',
  stat: 'look at',
  copyfile: 'copy',
};

/** libuv's errors carry the system's negative number. */
function isSystemError(error: unknown): boolean {
  const { errno, syscall } = (error ?? {}) as { errno?: unknown; syscall?: unknown };
  return typeof errno === 'number' && typeof syscall === 'string';
}

/** The system's error that was explained before, so that it can be explained anew; any other error as it is. */
export function systemErrorIn(error: unknown): unknown {
  const { cause } = (error ?? {}) as { cause?: unknown };
  return error instanceof UserError && systemCode(cause) !== undefined ? cause : error;
}

function systemCode(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : undefined;
}
