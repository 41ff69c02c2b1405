// A folder for files that are not worth a disk: flushing them would take most of the time.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder, in memory where the system has such a place and TMPDIR names none; it goes with the process. */
export function scratchFolder(name) {
  const folder = inMemory(name) ?? mkdtempSync(join(tmpdir(), `${name}-`));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function inMemory(name) {
  if (process.env.TMPDIR) return undefined;
  try {
    return mkdtempSync(`/dev/shm/${name}-`);
  } catch {
    return undefined;
  }
}
