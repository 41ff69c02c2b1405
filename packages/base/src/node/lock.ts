/** One process at a time works in a directory; another one waits or is refused. What a killed process left is taken over. */
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../errors.js';
import { lockPath, takeLock } from './lock_file.js';

/** How `withLock` waits for a lock that another process holds. */
export interface LockOptions {
  signal?: AbortSignal;
  /** told once, with the holder's process id (0 where it is not known) and the lock's file */
  onWait?: (holder: number, path: string) => void;
}

/**
 * Waits for a directory's lock and runs `work` while holding it. Directories it had to make are removed again if left
 * empty.
 *
 * @throws UserError if nothing can be written
 */
export async function withLock<T>(directory: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  let told = false;
  let lock = takeLock(directory);
  while (!lock.taken) {
    options.signal?.throwIfAborted();
    if (!told) options.onWait?.(lock.holder?.pid ?? 0, lockPath(directory));
    told = true;
    await sleep(100);
    lock = takeLock(directory);
  }
  try {
    return await work();
  } finally {
    lock.release();
  }
}

/**
 * Locks the directory for this process and returns a function that unlocks it; directories made for the lock are then
 * removed again if they stayed empty.
 *
 * @param does what the process does in it, such as `trains`
 * @throws UserError if another process has it, or nothing can be written there
 */
export function lockOrRefuse(directory: string, does: string): () => void {
  const lock = takeLock(directory);
  if (lock.taken) return lock.release;
  const { holder } = lock;
  const other = holder ? `Another process (${holder.pid} on ${holder.host}, since ${holder.since})` : 'Another process';
  throw new UserError(
    `${other} ${does} in ${directory} and holds ${lockPath(directory)}; wait for it, or choose another output.`,
  );
}
