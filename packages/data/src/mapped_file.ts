// A file's bytes as if they were memory: mapped through libc where koffi loads, so that a dataset larger than the
// memory costs none; elsewhere (Windows, no binary) read with pread, piece by piece as asked for.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { explainSystemError, UserError } from '@stickbreaking/base';

export interface FileBytes {
  readonly size: number;
  /** Bytes [start, end): a view of the mapping, or a copy. */
  read(start: number, end: number): Uint8Array<ArrayBuffer>;
  /** Views handed out before must not be touched afterwards. */
  close(): void;
}

/** Opens a file for reading at random. `mapped: false` forces pread. */
export function openBytes(path: string, options: { mapped?: boolean } = {}): FileBytes {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
  const size = fstatSync(fd).size;
  if (options.mapped !== false && size > 0) {
    const mapping = memoryMap()?.(fd, size);
    if (mapping) {
      closeSync(fd); // the mapping keeps the file
      return { size, read: (start, end) => mapping.bytes.subarray(start, end), close: mapping.unmap };
    }
  }
  return { size, read: (start, end) => pread(path, fd, start, end), close: () => closeSync(fd) };
}

function pread(path: string, fd: number, start: number, end: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(end - start);
  for (let done = 0; done < bytes.length; ) {
    const count = readSync(fd, bytes, done, bytes.length - done, start + done);
    if (count === 0)
      throw new UserError(`${path}: the file ended at byte ${start + done}; was it cut short meanwhile?`);
    done += count;
  }
  return bytes;
}

type MemoryMap = (fd: number, size: number) => { bytes: Uint8Array<ArrayBuffer>; unmap(): void } | undefined;
let cachedMap: MemoryMap | null | undefined;

function memoryMap(): MemoryMap | null {
  if (cachedMap === undefined) cachedMap = bindLibc();
  return cachedMap;
}

const PROT_READ_WRITE = 3;
const MAP_PRIVATE = 2;

/** Private and writable: a stray write into a view stays in this process instead of killing it. */
function bindLibc(): MemoryMap | null {
  const libraries: Partial<Record<NodeJS.Platform, [string[], number]>> = {
    linux: [['libc.so.6', 'libc.so', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1'], 0x4000],
    darwin: [['libSystem.B.dylib'], 0x40],
  };
  const [names, noReserve] = libraries[process.platform] ?? [[], 0];
  for (const name of names) {
    try {
      const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
      const libc = koffi.load(name);
      const mmap = libc.func(
        'void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)',
      );
      const munmap = libc.func('int munmap(void *address, size_t length)');
      return (fd, size) => {
        const address = mmap(null, size, PROT_READ_WRITE, MAP_PRIVATE | noReserve, fd, 0);
        if (koffi.address(address) === 0xffff_ffff_ffff_ffffn) return undefined; // MAP_FAILED
        return { bytes: new Uint8Array(koffi.view(address, size)), unmap: () => munmap(address, size) };
      };
    } catch {
      // not this library, or no koffi
    }
  }
  return null;
}
