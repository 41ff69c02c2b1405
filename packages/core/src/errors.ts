/** A mistake in what the user gave: the commands print its message alone, without a stack trace, and exit with 1. */
export class UserError extends Error {
  override readonly name = 'UserError';
}

const reasons: Record<string, string> = {
  ENOSPC: 'the disk is full; free some space and run again',
  EDQUOT: 'the disk quota is used up; free some space and run again',
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

/** Turns a system's error into a one-line UserError that says what was being done; anything else comes back as it is. */
export function explainSystemError(error: unknown, action: string): unknown {
  const code = systemCode(error);
  const reason = code === undefined ? undefined : reasons[code];
  return reason === undefined ? error : new UserError(`${action}: ${reason} (${code}).`, { cause: error });
}

/** The system's error code, also of an error that has been explained already (its `cause`). */
function systemCode(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: unknown };
  if (typeof code === 'string') return code;
  return cause === undefined ? undefined : systemCode(cause);
}
