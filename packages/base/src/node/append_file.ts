/** A file that grows while a program works. */
import { closeSync, fsyncSync, ftruncateSync } from 'node:fs';
import { explainSystemError } from '../errors.js';
import { writeFully } from './files.js';
import { openFile } from './read_whole.js';

/** Whatever the system refuses of it, the error names its path. */
export class AppendFile {
  private readonly file: number;

  /**
   * Opens the file, or makes it.
   *
   * @param shown the path as messages show it
   * @throws UserError that names the path, as all methods that write do
   */
  constructor(
    path: string,
    private readonly shown = path,
  ) {
    this.file = openFile(path, 'appending', shown);
  }

  /** All of it is in the file when the call returns. */
  append(content: string | Uint8Array): void {
    this.explained(() => writeFully(this.file, typeof content === 'string' ? Buffer.from(content) : content));
  }

  /** Leaves its first bytes alone. */
  cutTo(bytes: number): void {
    this.explained(() => ftruncateSync(this.file, bytes));
  }

  /** What was appended outlives a power cut when the call returns. */
  sync(): void {
    this.explained(() => fsyncSync(this.file));
  }

  /** Leaves the file as it is; nothing can be appended after it. */
  close(): void {
    closeSync(this.file);
  }

  private explained(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw explainSystemError(error, `cannot write ${this.shown}`);
    }
  }
}
