// Files as streams of bytes and of lines, plain or Zstandard, in memory bounded by the longest line.
import { createReadStream } from 'node:fs';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { Decompress, type ZstdError, ZstdErrorCode } from 'fzstd';

export interface Line {
  bytes: Uint8Array;
  /** 1-based */
  number: number;
  /** of the first byte, in the (decompressed) file */
  offset: number;
}

export async function* readBytes(path: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) yield chunk as Uint8Array;
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
}

/** The decompressed bytes of a Zstandard file of any number of frames; a file cut short is an error, wherever cut. */
export async function* readZstd(path: string): AsyncGenerator<Uint8Array> {
  let blocks: Uint8Array[] = [];
  const decompressor = new Decompress((block) => blocks.push(block.slice()));
  for await (const chunk of readBytes(path)) {
    push(decompressor, chunk, false, path);
    yield* blocks;
    blocks = [];
  }
  push(decompressor, new Uint8Array(0), true, path);
  yield* blocks;
}

function push(decompressor: Decompress, chunk: Uint8Array, last: boolean, path: string): void {
  try {
    decompressor.push(chunk, last);
  } catch (error) {
    const { code, message } = error as ZstdError;
    if (code === ZstdErrorCode.UnexpectedEOF) {
      throw new UserError(`${path}: the Zstandard data is cut short; fetch the file again.`);
    }
    const advice =
      code === ZstdErrorCode.WindowSizeTooLarge
        ? 'compress it again without --long or --ultra'
        : 'the file is damaged or not Zstandard';
    throw new UserError(`${path}: ${message || 'invalid zstd data'}; ${advice}.`);
  }
}

/** Cuts a stream at line feeds. The last line needs none. */
export async function* readLines(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let rest: Uint8Array[] = [];
  let offset = 0;
  let number = 0;
  const finish = (end: Uint8Array): Line => {
    const bytes = rest.length === 0 ? end : Buffer.concat([...rest, end]);
    rest = [];
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
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
  if (rest.length > 0) yield finish(new Uint8Array(0));
}
