/** How much memory there is. */
import { totalmem } from 'node:os';

/** Bytes of memory that this process may take: the machine's, or a container's limit where that is less. */
export function hostMemory(): number {
  const limit = process.constrainedMemory(); // 0 or absurdly large if there is no limit
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
