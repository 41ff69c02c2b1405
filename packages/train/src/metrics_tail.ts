// A metrics.jsonl as it grows, for those who watch a run: only what is new is read.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { explainSystemError } from '@stickbreaking/base';
import { type MetricsLine, parseLine } from './metrics.js';

/** The lines of a metrics.jsonl so far. */
export class MetricsTail {
  /** All lines that were read so far. */
  lines: MetricsLine[] = [];
  /** Counts how often the file was replaced, as a resumed run does that drops lines: then `lines` begins anew. */
  generation = 0;
  private offset = 0;
  private inode = -1;

  constructor(readonly path: string) {}

  /**
   * Reads what was appended since it last read. A line that is only half written waits for its end.
   *
   * @returns whether `lines` has changed
   * @throws UserError where the file is there but cannot be read
   */
  read(): boolean {
    let file: number;
    try {
      file = openSync(this.path, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return this.begin(-1);
      throw explainSystemError(error, `cannot read ${this.path}`);
    }
    try {
      const { ino, size } = fstatSync(file);
      const isNew = (ino !== this.inode || size < this.offset) && this.begin(ino);
      return this.append(file, size) || isNew;
    } finally {
      closeSync(file);
    }
  }

  private append(file: number, size: number): boolean {
    const bytes = Buffer.alloc(size - this.offset);
    const count = readSync(file, bytes, 0, bytes.length, this.offset);
    const end = bytes.lastIndexOf(10, count - 1) + 1;
    if (count === 0 || end === 0) return false;
    this.offset += end;
    for (const text of bytes.subarray(0, end).toString().split('\n')) {
      const line = parseLine(text);
      if (line) this.lines.push(line);
    }
    return true;
  }

  /** @returns whether there was something before */
  private begin(inode: number): boolean {
    const had = this.inode !== -1;
    this.inode = inode;
    this.offset = 0;
    if (had) {
      this.lines = [];
      this.generation++;
    }
    return had;
  }
}
