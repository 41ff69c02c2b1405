// One process at a time trains in a run's directory; another one is refused. What a killed process left behind is taken over.
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { isAlive, type LockHolder, lockAge, lockHolder, removeLock, removeMade, takeLock } from '@stickbreaking/data';

const TOUCH_MS = 10_000;
/** A holder on another machine that has not touched its lock for so long is gone. */
const STALE_MS = 600_000;

/**
 * Takes the directory for this process and returns what gives it back; directories that had to be made for it are
 * removed again where nothing came into them.
 *
 * @throws UserError where another process trains there, or nothing can be written
 */
export function lockRun(directory: string): () => void {
  let made: string | undefined;
  let release: (() => void) | undefined;
  try {
    made = mkdirSync(directory, { recursive: true });
    release = takeLock(directory, TOUCH_MS);
    if (!release) {
      const holder = lockHolder(directory);
      if (holder && !isGone(holder, directory)) {
        throw new UserError(
          `Another process (${holder.pid} on ${holder.host}) trains in ${directory}; wait for it, or choose another output.`,
        );
      }
      removeLock(directory);
      release = takeLock(directory, TOUCH_MS);
      if (!release) throw new UserError(`Another process has just begun to train in ${directory}.`);
    }
  } catch (error) {
    throw explainSystemError(error, `cannot write to ${directory}`);
  }
  return () => {
    release();
    removeMade(directory, made);
  };
}

function isGone({ pid, host }: LockHolder, directory: string): boolean {
  if (host !== hostname()) return (lockAge(directory) ?? Number.POSITIVE_INFINITY) > STALE_MS;
  // In a container that was started again, the process of the same number is this one.
  return pid === process.pid || !isAlive(pid);
}
