/** A checkpoint that cannot be used, known by its directory so that another of its run can be named. */
import { actionOf, EXIT, explainSystemError, OutOfMemoryError, systemErrorIn, UserError } from '@stickbreaking/base';

/** What lies in a checkpoint's directory is not as it was saved, or does not fit together. */
export class RefusedCheckpoint extends UserError {
  /** Nothing else was found wrong with it: who does not verify it can use it. */
  usable = false;

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
    throw faultOfCheckpoint(error, directory);
  }
}

/** The same of what takes its time. */
export async function readingCheckpointAsync<T>(directory: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw faultOfCheckpoint(error, directory);
  }
}

/** The error of reading a checkpoint as a RefusedCheckpoint, unless the system or the machine's memory is to blame. */
export function faultOfCheckpoint(error: unknown, directory: string): unknown {
  const told = explainSystemError(error, actionOf(error));
  if (!(told instanceof UserError)) return error;
  if (told instanceof RefusedCheckpoint || told instanceof OutOfMemoryError) return told;
  return isOfContent(told) ? new RefusedCheckpoint(told.message, directory, { cause: told }) : told;
}

/** What is missing, or of another kind than it should be, was changed by somebody: the system only says so. */
function isOfContent(error: UserError): boolean {
  const cause = systemErrorIn(error);
  if (error.missing || cause === error) return true;
  return ['ENOTDIR', 'EISDIR', 'ELOOP'].includes((cause as NodeJS.ErrnoException).code!);
}
