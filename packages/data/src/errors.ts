// Mistakes a user can mend (a missing file, a broken archive, a full disk) are told in one line and without a stack
// trace. They carry the name `UserError`, by which every command of the project recognises them.

/** A mistake in the data or its description. `message` is one line: what, where, and what to do. */
export class DataError extends Error {
  override readonly name = 'UserError';
  /** Nothing is wrong but that a file is not there (yet). */
  readonly missing: boolean;

  constructor(message: string, options: { cause?: unknown; missing?: boolean } = {}) {
    super(message, options);
    this.missing = options.missing ?? false;
  }
}

const reasons: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EEXIST: 'a file is in the way',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of the path is not a directory',
  ENOSPC: 'the disk is full; free some space and run again, nothing was lost',
  EDQUOT: 'the disk quota is used up; free some space and run again, nothing was lost',
  EFBIG: 'the file would be larger than the system allows',
  EROFS: 'the file system is read-only',
  EMFILE: 'too many open files; raise the limit (ulimit -n)',
  EIO: 'input/output error, the disk may be failing',
};

/** Turns a system error into a DataError that says what was being done; anything else is returned as it came. */
export function explain(error: unknown, action: string): unknown {
  const code = (error as NodeJS.ErrnoException)?.code;
  if (error instanceof DataError || typeof code !== 'string') return error;
  const reason = reasons[code];
  return reason
    ? new DataError(`${action}: ${reason} (${code}).`, { cause: error, missing: code === 'ENOENT' })
    : error;
}
