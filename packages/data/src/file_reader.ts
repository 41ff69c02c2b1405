// Files read at random with pread. A mapping would be a little faster and ends the process by a signal (SIGBUS) when a
// file is cut short under it; here that is an error with the file's name. Few files are open at a time, however many
// there are.
import { closeSync, fstatSync, readSync } from 'node:fs';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { openFile } from '@stickbreaking/base/node';

/** Open files, the one used last at the end. */
const open = new Map<FileReader, number>();
const MOST_OPEN = 64;

export class FileReader {
  /** bytes */
  readonly size: number;

  /** Throws a UserError where there is no such file, or it cannot be read. */
  constructor(readonly path: string) {
    this.size = fstatSync(this.descriptor()).size;
  }

  /** Bytes [start, end). Throws a UserError where the file does not have them (any more). */
  read(start: number, end: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(end - start);
    for (let done = 0; done < bytes.length; ) {
      const count = this.readSome(bytes, done, start + done);
      if (count === 0) {
        throw new UserError(`${shown(this.path)} ended at byte ${start + done}; was it cut short meanwhile?`);
      }
      done += count;
    }
    return bytes;
  }

  close(): void {
    const descriptor = open.get(this);
    if (descriptor === undefined) return;
    open.delete(this);
    closeSync(descriptor);
  }

  private readSome(bytes: Uint8Array, at: number, position: number): number {
    try {
      return readSync(this.descriptor(), bytes, at, bytes.length - at, position);
    } catch (error) {
      throw explainSystemError(error, `cannot read ${shown(this.path)}`);
    }
  }

  private descriptor(): number {
    let descriptor = open.get(this);
    if (descriptor === undefined) {
      descriptor = openFile(this.path, 'reading', shown(this.path));
      if (open.size >= MOST_OPEN) open.keys().next().value?.close();
    } else open.delete(this);
    open.set(this, descriptor);
    return descriptor;
  }
}
