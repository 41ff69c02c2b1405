// Files as streams of bytes and of lines, in memory bounded by the longest line.
import { createReadStream } from 'node:fs';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';

export interface Line {
  bytes: Uint8Array;
  /** 1-based */
  number: number;
  /** of the first byte, in the (decompressed) file */
  offset: number;
}

/** Told how many bytes of a file on disk have been read. */
export type OnRead = (bytes: number) => void;

export async function* readBytes(path: string, onRead?: OnRead): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      onRead?.(chunk.length);
      yield chunk as Uint8Array;
    }
  } catch (error) {
    throw explainSystemError(error, `cannot read ${shown(path)}`);
  }
}

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/** The stream without the byte order mark that some programs begin a UTF-8 file with. */
export async function* withoutMark(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let begin: Uint8Array | undefined = new Uint8Array(0);
  for await (const chunk of stream) {
    if (begin === undefined) {
      yield chunk;
      continue;
    }
    begin = Buffer.concat([begin, chunk]);
    if (begin.length < 3) continue;
    yield unmarked(begin);
    begin = undefined;
  }
  if (begin !== undefined && begin.length > 0) yield begin;
}

function unmarked(bytes: Uint8Array): Uint8Array {
  return BYTE_ORDER_MARK.every((byte, i) => bytes[i] === byte) ? bytes.subarray(3) : bytes;
}

/** The longest line or value that can become one string, in bytes. */
const LONGEST = 2 ** 29 - 64;

/** Puts pieces together into one run of bytes, as long as that may be. */
export class Gathered {
  private parts: Uint8Array[] = [];
  length = 0;

  constructor(private readonly where: () => string) {}

  add(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.length += bytes.length;
    if (this.length > LONGEST) {
      throw new UserError(`${this.where()}: more than ${LONGEST} bytes are too many for one record; split the text.`);
    }
    this.parts.push(bytes);
  }

  /** All that was added, once. */
  take(): Uint8Array {
    const [only] = this.parts;
    const all = this.parts.length === 1 ? only! : Buffer.concat(this.parts);
    this.parts = [];
    this.length = 0;
    return all;
  }
}

/**
 * Cuts a stream at line feeds. The last line needs none.
 * @param path for the error, where a line is too long to be one text
 */
export async function* readLines(stream: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Line> {
  let offset = 0;
  let number = 0;
  const rest = new Gathered(() => `${shown(path)}, line ${number + 1}`);
  const finish = (end: Uint8Array): Line => {
    rest.add(end);
    const bytes = rest.take();
    const line = { bytes, number: ++number, offset };
    offset += bytes.length + 1;
    return line;
  };
  for await (const chunk of stream) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield finish(chunk.subarray(start, end));
      start = end + 1;
    }
    rest.add(chunk.subarray(start));
  }
  if (rest.length > 0) yield finish(new Uint8Array(0));
}
