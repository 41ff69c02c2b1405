// A file of JSON lines that grows with a run. A run that goes on drops what lies past its checkpoint, so that the file is the
// one of a run that never stopped.
import { closeSync, existsSync, fsyncSync } from 'node:fs';
import { dirname } from 'node:path';
import { explainSystemError } from '@stickbreaking/base';
import { openFile, readWhole, replaceFile, syncDirectory, writeFully } from '@stickbreaking/base/node';

export class LinesFile {
  private readonly file: number;

  /**
   * Opens the file for appending.
   *
   * @param kept its lines: what else stands in it is dropped
   */
  constructor(
    readonly path: string,
    kept: readonly object[],
  ) {
    const text = kept.map((line) => `${JSON.stringify(line)}\n`).join('');
    if (existsSync(path) && text !== readWhole(path).toString()) replaceFile(path, text);
    this.file = openFile(path, 'appending');
    syncDirectory(dirname(path));
  }

  append(line: object): void {
    try {
      writeFully(this.file, Buffer.from(`${JSON.stringify(line)}\n`));
    } catch (error) {
      throw explainSystemError(error, `cannot write ${this.path}`);
    }
  }

  sync(): void {
    fsyncSync(this.file);
  }

  close(): void {
    closeSync(this.file);
  }
}
