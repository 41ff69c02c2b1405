/** The system's own file lock, flock(2): it ends with the process that holds it, however that ends. */
import { loadKoffi } from './koffi.js';

const LOCK_EX = 2;
const LOCK_NB = 4;
/** EAGAIN by system: somebody else holds it. Any other failure: the file system has no such locks. */
const HELD: Partial<Record<NodeJS.Platform, number>> = { linux: 11, darwin: 35 };
const LIBRARIES: Partial<Record<NodeJS.Platform, string[]>> = {
  linux: ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1'],
  darwin: ['libSystem.B.dylib'],
};

type Flock = (file: number) => 'taken' | 'held' | 'unsupported';
let bound: Flock | undefined;

/** Locks an open file for this process alone, without waiting. It is given back when the file is closed. */
export function flock(file: number): ReturnType<Flock> {
  bound ??= bind();
  return bound(file);
}

function bind(): Flock {
  for (const name of LIBRARIES[process.platform] ?? []) {
    try {
      const koffi = loadKoffi();
      const call = koffi.load(name).func('int flock(int file, int operation)');
      return (file) => {
        if (call(file, LOCK_EX | LOCK_NB) === 0) return 'taken';
        return koffi.errno() === HELD[process.platform] ? 'held' : 'unsupported';
      };
    } catch {
      // Not this library, or no koffi here.
    }
  }
  return () => 'unsupported';
}
