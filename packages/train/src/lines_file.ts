// A file of JSON lines that grows with a run. A run that goes on drops what lies past its checkpoint, so that the file is the
// one of a run that never stopped.
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { AppendFile, readWhole, replaceFile, syncDirectory } from '@stickbreaking/base/node';

export class LinesFile {
  private readonly file: AppendFile;

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
    this.file = new AppendFile(path);
    syncDirectory(dirname(path));
  }

  append(line: object): void {
    this.file.append(`${JSON.stringify(line)}\n`);
  }

  sync(): void {
    this.file.sync();
  }

  close(): void {
    this.file.close();
  }
}
