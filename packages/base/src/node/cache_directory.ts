/** Where compiled kernels are kept. */
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

/** STICKBREAKING_CACHE, or stickbreaking/ in the user's cache folder. */
export function cacheDirectory(): string {
  return (
    process.env.STICKBREAKING_CACHE ||
    join(process.env.XDG_CACHE_HOME || join(homeDirectory() ?? tmpdir(), '.cache'), 'stickbreaking')
  );
}

/** The user's home; undefined where the user is only a number, as in some containers. */
export function homeDirectory(): string | undefined {
  try {
    return homedir();
  } catch {
    return undefined;
  }
}
