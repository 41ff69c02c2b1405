import { brotliCompressSync, gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { checkedCompressors } from './parquet_codecs.js';

const ABC = Buffer.from('ABC');
/** Five letters A, one of them written and four copied, and five that are written. */
const BLOCK = [0x10, 65, 1, 0, 0x50, 66, 67, 68, 69, 70];
const LONG = Buffer.from('x'.repeat(300));
const ZSTD = (says: number) => [0x28, 0xb5, 0x2f, 0xfd, 0x20, says, 0x19, 0, 0, ...ABC];

test.each([
  ['SNAPPY', [3, 8, ...ABC], 'ABC'],
  ['GZIP', gzipSync(ABC), 'ABC'],
  ['BROTLI', brotliCompressSync(ABC), 'ABC'],
  ['ZSTD', ZSTD(3), 'ABC'],
  ['LZ4_RAW', BLOCK, 'AAAAABCDEF'],
  ['LZ4_RAW', [0xf0, 255, 30, ...LONG], LONG.toString()],
  ['LZ4', BLOCK, 'AAAAABCDEF'],
  ['LZ4', [0, 0, 0, 10, 0, 0, 0, 10, ...BLOCK, 0, 0, 0, 10, 0, 0, 0, 10, ...BLOCK], 'AAAAABCDEF'.repeat(2)],
] as const)('a page of %s comes out at its own size, and at no other', (codec, page, text) => {
  const decompress = checkedCompressors[codec]!;
  const input = Uint8Array.from(page);
  expect(Buffer.from(decompress(input, text.length)).toString()).toBe(text);
  for (const size of [0, text.length - 1, text.length + 1, 1000])
    expect(() => decompress(input, size), String(size)).toThrow(/^a page (is not what|of \w+ comes to)/);
  for (let length = 0; length < input.length - (codec === 'GZIP' ? 0 : 1); length++)
    expect(() => decompress(input.subarray(0, length), text.length), `cut at ${length}`).toThrow(/^a page /);
});

test.each([
  ['BROTLI', [6], 9], // a stream of nothing
  ['ZSTD', ZSTD(9), 9], // a frame whose header says more than it holds
  ['SNAPPY', [], 9],
  ['LZ4_RAW', [0xf0, 255], 9],
  ['LZ4_RAW', [0x30, 65], 9],
  ['LZ4', [0, 0, 0, 9], 9],
] as const)('a page of %s that holds less than it should is refused', (codec, page, size) => {
  expect(() => checkedCompressors[codec]!(Uint8Array.from(page), size)).toThrow(/^a page /);
});
