// A user's mistake (a wrong key, a missing file, a full disk) is told in one line. Errors named `UserError` are
// recognised by that name in every package; the commands print their message alone.

/** A mistake in the run's configuration or surroundings. `message` is one line: what, where, and what to do. */
export class TrainError extends Error {
  override readonly name = 'UserError';
}

const reasons: Record<string, string> = {
  ENOSPC: 'the disk is full; free some space and continue with --resume',
  EDQUOT: 'the disk quota is used up; free some space and continue with --resume',
  EFBIG: 'the file would be larger than the system allows',
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENOENT: 'there is no such file or directory',
  ENOTDIR: 'a part of the path is not a directory',
  EEXIST: 'a file is in the way',
  EISDIR: 'it is a directory',
  EIO: 'input/output error, the disk may be failing',
};

/** Turns a system error into a one-line TrainError that says what was being done; anything else comes back as it is. */
export function explain(error: unknown, action: string): unknown {
  const code = systemCode(error);
  const reason = code && reasons[code];
  return reason ? new TrainError(`${action}: ${reason} (${code}).`, { cause: error }) : error;
}

/** The system's error code, also of an error that another package has explained already (`cause`). */
function systemCode(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: unknown };
  if (typeof code === 'string') return code;
  return cause === undefined ? undefined : systemCode(cause);
}

export function isUserError(error: unknown): error is Error {
  return error instanceof Error && error.name === 'UserError';
}
