// The codecs of Parquet's pages, each held to the size that the page's header says. Those of `hyparquet-compressors` fill a
// page of that size as far as their input goes and leave the rest blank, which would be read as texts of nothing.
import { brotliDecompressSync, unzipSync } from 'node:zlib';
import { Decompress } from 'fzstd';
import type { Compressors } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

type Codec = keyof Compressors;
type Decoder = (page: Uint8Array, size: number) => Uint8Array;

/** Decompressors of pages, which throw where a page does not come out at the size that it should have. */
export const checkedCompressors: Compressors = {
  SNAPPY: checked('SNAPPY', (page, size) => {
    requireSize('SNAPPY', snappySize(page), size);
    return compressors.SNAPPY!(page, size);
  }),
  // Node's know where their input ends, and check gzip's checksum.
  GZIP: checked('GZIP', (page, size) => unzipSync(page, { maxOutputLength: Math.max(1, size) })),
  BROTLI: checked('BROTLI', (page, size) => brotliDecompressSync(page, { maxOutputLength: Math.max(1, size) })),
  ZSTD: checked('ZSTD', decompressZstd),
  LZ4: checked('LZ4', (page, size) => {
    requireSize('LZ4', hadoopSize(page) ?? lz4Size(page), size);
    return compressors.LZ4!(page, size);
  }),
  LZ4_RAW: checked('LZ4_RAW', (page, size) => {
    requireSize('LZ4_RAW', lz4Size(page), size);
    return compressors.LZ4_RAW!(page, size);
  }),
};

function checked(codec: Codec, decompress: Decoder): Decoder {
  return (page, size) => {
    let bytes: Uint8Array;
    try {
      bytes = decompress(page, size);
    } catch (error) {
      if (error instanceof SizeError) throw error;
      throw new Error(notMadeBy(codec), { cause: error });
    }
    requireSize(codec, bytes.length, size);
    return bytes;
  };
}

const notMadeBy = (codec: Codec) => `a page is not what ${codec} makes`;

class SizeError extends Error {}

function requireSize(codec: Codec, found: number | undefined, size: number): void {
  if (found === undefined) throw new SizeError(notMadeBy(codec));
  if (found !== size) throw new SizeError(`a page of ${codec} comes to ${found} bytes instead of ${size}`);
}

/** Block by block, as `decompress` of fzstd gives as many bytes as the frame's header says, however many there are. */
function decompressZstd(page: Uint8Array, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let filled = 0;
  const stream = new Decompress((block) => {
    if (filled + block.length <= size) bytes.set(block, filled);
    filled += block.length;
  });
  stream.push(page, true);
  requireSize('ZSTD', filled, size);
  return bytes;
}

/** The size that a Snappy block's first bytes say, 7 bits in each; its decoder holds the block to it. */
function snappySize(page: Uint8Array): number | undefined {
  let size = 0;
  for (let i = 0; i < Math.min(5, page.length); i++) {
    size += (page[i]! & 0x7f) * 2 ** (7 * i);
    if (page[i]! < 0x80) return size;
  }
  return undefined;
}

/** The size to which an LZ4 block comes (lz4_Block_format.md of https://github.com/lz4/lz4); undefined where it is none. */
function lz4Size(block: Uint8Array): number | undefined {
  let [size, at] = [0, 0];
  /** A length of 4 bits, which bytes of 255 and one below prolong. */
  const prolonged = (length: number) => {
    if (length < 15) return length;
    let byte = 255;
    for (; byte === 255; length += byte) {
      byte = block[at++] ?? Number.NaN;
      if (Number.isNaN(byte)) return Number.NaN;
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = prolonged(token >> 4);
    at += literals;
    size += literals;
    if (at === block.length) return size; // the last sequence has no match
    at += 2;
    size += prolonged(token & 15) + 4;
    if (!(at <= block.length)) return undefined;
  }
  return undefined;
}

/** The size of Hadoop's framing of LZ4 blocks, each after its two sizes of 32 bits; undefined where it is not that. */
function hadoopSize(page: Uint8Array): number | undefined {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  let [size, at] = [0, 0];
  while (at + 8 <= page.length) {
    const [whole, length] = [view.getUint32(at), view.getUint32(at + 4)];
    at += 8;
    if (at + length > page.length || lz4Size(page.subarray(at, at + length)) !== whole) return undefined;
    at += length;
    size += whole;
  }
  return at === page.length ? size : undefined;
}
