/** One process at a time works in a directory; others wait or are refused. The lock of a killed process is taken over. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../errors.js';
import { type LockPolicy, takeLock } from './lock_file.js';
import { isAlive } from './process.js';

/** How `withLock` waits for a lock that another process holds. */
export interface LockOptions {
  signal?: AbortSignal;
  /** Called once, with the process id of the holder. */
  onWait?: (holder: number) => void;
}

const waiting: LockPolicy = {
  touchEveryMs: 5_000,
  isGone: ({ holder, age }) => age > 60_000 || (holder?.host === hostname() && !isAlive(holder.pid)),
};

/**
 * Waits for a directory's lock and runs `work` while holding it. The lock only avoids duplicate work: should two
 * processes ever hold it, both must write the same bytes, under other names and then renamed. Directories made for it
 * are removed again if they stay empty.
 *
 * @throws UserError if nothing can be written
 */
export async function withLock<T>(directory: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  let told = false;
  let lock = takeLock(directory, waiting);
  while (!lock.taken) {
    options.signal?.throwIfAborted();
    if (lock.holder && !told) options.onWait?.(lock.holder.pid);
    told ||= lock.holder !== undefined;
    await sleep(100);
    lock = takeLock(directory, waiting);
  }
  try {
    return await work();
  } finally {
    lock.release();
  }
}

const refusing: LockPolicy = {
  touchEveryMs: 10_000,
  isGone: ({ holder, age }) => {
    if (!holder) return true;
    // One of another machine that has not touched its lock for so long is gone.
    if (holder.host !== hostname()) return age > 600_000;
    // In a container that was started again, the process of the same number is this one.
    return holder.pid === process.pid || !isAlive(holder.pid);
  },
};

/**
 * Locks the directory for this process and returns a function that unlocks it; directories made for the lock are then
 * removed again if they stayed empty.
 *
 * @param does what the process does in it, such as `trains`
 * @throws UserError if another process has it, or nothing can be written there
 */
export function lockOrRefuse(directory: string, does: string): () => void {
  const lock = takeLock(directory, refusing);
  if (lock.taken) return lock.release;
  const { holder } = lock;
  const other = holder ? `Another process (${holder.pid} on ${holder.host})` : 'Another process';
  throw new UserError(`${other} ${does} in ${directory}; wait for it, or choose another output.`);
}
