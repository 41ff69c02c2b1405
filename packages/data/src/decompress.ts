// A file's bytes, decompressed as its format says. What a compression carries to check itself (CRC-32, CRC-64, XXH64) is
// checked where it comes, at the end of most files; a file that is cut short or damaged is one line.
import { statSync } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { shown, UserError } from '@stickbreaking/base';
import { type OnRead, readBytes } from './byte_stream.js';
import type { Compression } from './kinds.js';

/** Each loads its library when it is used. */
const readers: Record<Compression, (path: string, onRead?: OnRead) => AsyncIterable<Uint8Array>> = {
  zst: readZstd,
  gz: readGzip,
  bz2: readBzip2,
  xz: readXz,
};

/** @param onRead told of the bytes as they lie on disk */
export function readDecompressed(
  path: string,
  compression: Compression | undefined,
  onRead?: OnRead,
): AsyncIterable<Uint8Array> {
  if (compression === undefined) return readBytes(path, onRead);
  const bytes = readers[compression](path, onRead);
  // Each block of bzip2 has a sum of its own, so that what was read is checked, and to decompress the rest takes minutes.
  return compression === 'bz2' ? bytes : checkedToItsEnd(path, bytes);
}

/** Larger files take more than a few seconds to decompress. */
const MOST_READ_ON = 2 ** 26;

/**
 * The bytes, which are read on to the end of the file where their reader has enough before it: the checksum of what was read
 * stands there. A file of more than `most` bytes is left.
 */
export async function* checkedToItsEnd(
  path: string,
  bytes: AsyncIterable<Uint8Array>,
  most = MOST_READ_ON,
): AsyncGenerator<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]();
  let hasEnded = false;
  const next = async () => {
    hasEnded = true; // unless it gives something
    const { done = false, value } = await iterator.next();
    hasEnded = done;
    return value;
  };
  try {
    for (let chunk = await next(); !hasEnded; chunk = await next()) yield chunk;
  } finally {
    if (!hasEnded && statSync(path).size > most) await iterator.return?.();
    else while (!hasEnded) await next();
  }
}

async function* readZstd(path: string, onRead?: OnRead): AsyncGenerator<Uint8Array> {
  yield* (await import('./zstd.js')).readZstd(path, onRead);
}

async function* readGzip(path: string, onRead?: OnRead): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: 1 << 18 });
  pipeline(readBytes(path, onRead), gunzip, () => {}); // an error in reading comes out of the pipe's end
  yield* guarded(path, 'gzip', gunzip);
  // zlib takes what follows the last member for padding, also where it is a member that was damaged.
  const { size } = statSync(path);
  if (gunzip.bytesWritten < size) {
    throw new UserError(
      `${shown(path)}: the gzip data ends at byte ${gunzip.bytesWritten} of ${size}; the file is damaged, fetch it again.`,
    );
  }
}

function readBzip2(path: string, onRead?: OnRead): AsyncIterable<Uint8Array> {
  return guarded(path, 'bzip2', unbzip2Blocks(path, onRead));
}

/** The package's stream is of an old kind, which knows neither iterators nor back-pressure, but works as it is written to. */
async function* unbzip2Blocks(path: string, onRead?: OnRead): AsyncGenerator<Uint8Array> {
  const { default: unbzip2 } = await import('unbzip2-stream');
  const stream = unbzip2();
  let blocks: Uint8Array[] = [];
  let failure: unknown;
  stream.on('data', (block: Uint8Array) => blocks.push(block));
  stream.on('error', (error: unknown) => {
    failure ??= error;
  });
  for await (const chunk of readBytes(path, onRead)) {
    stream.write(chunk);
    if (failure) throw failure;
    yield* blocks;
    blocks = [];
  }
  stream.end();
  if (failure) throw failure;
  yield* blocks;
}

async function* readXz(path: string, onRead?: OnRead): AsyncGenerator<Uint8Array> {
  const compressed = Readable.toWeb(Readable.from(readBytes(path, onRead))) as ReadableStream<Uint8Array>;
  const { default: xz } = await import('xz-decompress');
  yield* guarded(path, 'xz', new xz.XzReadableStream(compressed) as unknown as AsyncIterable<Uint8Array>);
}

/** What the decompressors throw on a damaged file is theirs to word; the file's name is added and the stack left out. */
async function* guarded(path: string, name: string, stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) yield chunk;
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { message } = error as Error;
    const told = xzFaults[/error code (\d+)$/.exec(message)?.[1] ?? ''];
    // Where a file ends too early, the bzip2 package reads on in what is not there.
    const reason = error instanceof TypeError ? '' : ` (${shown(message)})`;
    throw new UserError(
      `${shown(path)}: the ${name} data ${told ?? `is damaged or cut short${reason}; fetch it again`}.`,
      { cause: error },
    );
  }
}

/** What XZ Embedded's codes mean (`enum xz_ret` in its xz.h). */
const xzFaults: Readonly<Record<string, string>> = {
  4: 'needs a large dictionary; compress it again with a lower preset',
  5: 'is none; name the format that it has',
  6: 'has a check or filter that is not supported; compress it again with --check=crc64',
  7: 'is damaged (its check does not fit); fetch it again',
  8: 'is damaged or cut short; fetch it again',
};
