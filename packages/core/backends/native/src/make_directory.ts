import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Makes a directory and what it stands in. Node's own recursive way hides a read-only file system behind ENOENT. */
export function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectory(dirname(path));
    mkdirSync(path);
  }
}
