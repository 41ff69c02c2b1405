// One process at a time prepares a directory; a second one waits and then finds the work done. The lock only saves work:
// should two processes ever hold it, both write the same bytes, each beside and renamed.
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { explainSystemError } from '@stickbreaking/base';
import { isAlive, type LockHolder, lockAge, lockHolder, removeLock, removeMade, takeLock } from './lock_file.js';

const TOUCH_MS = 5_000;
const STALE_MS = 60_000;

export interface LockOptions {
  signal?: AbortSignal;
  /** told once, with the holder's process id */
  onWait?: (holder: number) => void;
}

/** Runs `work` while holding the directory's lock. Directories it had to make are removed again if left empty. */
export async function withLock<T>(directory: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  let made: string | undefined;
  let told = false;
  let release: (() => void) | undefined;
  for (;;) {
    try {
      made = mkdirSync(directory, { recursive: true }) ?? made;
      release = takeLock(directory, TOUCH_MS);
      if (release) break;
    } catch (error) {
      // The directory may have been removed by a holder that left it empty.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        throw explainSystemError(error, `cannot write to ${directory}`);
    }
    options.signal?.throwIfAborted();
    const holder = lockHolder(directory);
    if (holder && !told) options.onWait?.(holder.pid);
    told ||= holder !== undefined;
    if (isStale(directory, holder)) removeLock(directory);
    else await sleep(100);
  }
  try {
    return await work();
  } finally {
    release();
    removeMade(directory, made);
  }
}

function isStale(directory: string, holder: LockHolder | undefined): boolean {
  if ((lockAge(directory) ?? 0) > STALE_MS) return true;
  return holder !== undefined && holder.host === hostname() && !isAlive(holder.pid);
}
