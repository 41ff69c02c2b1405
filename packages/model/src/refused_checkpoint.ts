/** A checkpoint that cannot be used, known by its directory so that another of its run can be named. */
import { EXIT, OutOfMemoryError, systemErrorIn, UserError } from '@stickbreaking/base';

/** What lies in a checkpoint's directory is not as it was saved, or does not fit together. */
export class RefusedCheckpoint extends UserError {
  constructor(
    message: string,
    readonly directory: string,
    options: ErrorOptions = {},
  ) {
    super(message, { ...options, exitCode: EXIT.refused });
  }
}

/**
 * Runs what reads a checkpoint: a fault that it meets there is the checkpoint's, unless the system or the machine's memory is to
 * blame.
 */
export function readingCheckpoint<T>(directory: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw isItsOwn(error) ? new RefusedCheckpoint(error.message, directory, { cause: error }) : error;
  }
}

function isItsOwn(error: unknown): error is UserError {
  if (!(error instanceof UserError) || error instanceof RefusedCheckpoint || error instanceof OutOfMemoryError)
    return false;
  return error.missing || systemErrorIn(error) === error;
}
