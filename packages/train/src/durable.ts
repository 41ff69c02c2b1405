// Writing so that a crash meets the old state or the new one and never a half: beside, flushed, renamed, and the
// directory flushed too.
import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Replaces `path`, atomically and durably. A crash may leave `path`.tmp behind. */
export function writeFileDurably(path: string, text: string): void {
  const temporary = `${path}.tmp`;
  try {
    const file = openSync(temporary, 'w');
    try {
      writeFully(file, Buffer.from(text));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    syncPath(dirname(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

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
