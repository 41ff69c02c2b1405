// What makes files outlast a crash: whole writes, and flushing a directory with all that is in it.
import { closeSync, fsyncSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** `write` may stop short when the disk is nearly full; the next call then says why. */
export function writeFully(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done);
}

/** Flushes a directory's files and then the directory itself. */
export function syncDirectory(path: string): void {
  for (const name of readdirSync(path)) if (statSync(join(path, name)).isFile()) syncPath(join(path, name));
  syncPath(path);
}

/** Flushes one file or directory. Windows cannot open a directory, and does not need it. */
export function syncPath(path: string): void {
  if (process.platform === 'win32' && statSync(path).isDirectory()) return;
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
