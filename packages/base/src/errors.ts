/** Mistakes that a user can fix (a missing file, a damaged archive, a full disk), reported in one line. */

/**
 * A mistake in what the user supplied: `message` is one line that says what, where, and what to do. The commands print
 * only that line, without a stack trace, and exit with 1; they recognise the error by its name.
 */
export class UserError extends Error {
  override readonly name = 'UserError';
  /** Nothing is wrong but that something is not there (yet). */
  readonly missing: boolean;

  constructor(message: string, { missing = false, ...options }: ErrorOptions & { missing?: boolean } = {}) {
    super(message, options);
    this.missing = missing;
  }
}

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
};

/** Turns a system error into a UserError that says what was being done; any other error is returned unchanged. */
export function explainSystemError(error: unknown, action: string): unknown {
  const code = systemCode(error);
  const reason = code === undefined ? undefined : reasons[code];
  if (reason === undefined) return error;
  return new UserError(`${action}: ${reason} (${code}).`, { cause: error, missing: code === 'ENOENT' });
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
