// Checksums that files carry: a flipped bit is found, wherever it is.
import { rmSync } from 'node:fs';
import { crc32, gzipSync } from 'node:zlib';
import { parquetMetadata } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { ByteWriter, parquetWriteBuffer } from 'hyparquet-writer';
import { writePageHeader } from 'hyparquet-writer/src/datapage.js';
import { writeMetadata } from 'hyparquet-writer/src/metadata.js';
import { afterAll, describe, expect, test } from 'vitest';
import { checkedToItsEnd } from './decompress.js';
import { readDocuments } from './documents.js';
import { checkPages } from './parquet_pages.js';
import { BY_BZIP2, BY_XZ, BY_ZSTD, forty, readTexts, refusal, testFolder } from './reading.fixture.js';

const { write, remove } = testFolder('checksums');
afterAll(remove);
const parquet = (data: string[]) =>
  Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data, type: 'STRING' }], codec: 'UNCOMPRESSED' }));

describe('checksums', () => {
  /** A bit of every byte, or of one in `step`, flipped: what is read is the same, or is refused. */
  async function flips(
    ending: string,
    whole: Uint8Array,
    from: number,
    to: number,
    step: number,
    same: string[],
  ): Promise<number> {
    let refused = 0;
    for (let at = from; at < to; at += step) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1 << (at % 8);
      const path = write(ending, bytes);
      const outcome = await readTexts({ path }).catch((error) => error);
      rmSync(path);
      if (Array.isArray(outcome)) expect(outcome).toEqual(same);
      else {
        expect(outcome).toMatchObject({ name: 'UserError', message: expect.stringMatching(/^.*\/\d+\..*$/) });
        refused++;
      }
    }
    return refused;
  }

  test.each([
    ['.jsonl.zst', Buffer.from(BY_ZSTD, 'base64')],
    ['.jsonl.xz', Buffer.from(BY_XZ, 'base64')],
    ['.jsonl.bz2', Buffer.from(BY_BZIP2, 'base64')],
    ['.jsonl.gz', gzipSync(forty.map((text) => `${JSON.stringify({ text })}\n`).join(''))],
  ])('of %s find a flipped bit', async (ending, whole) => {
    expect(await flips(ending, whole, 0, whole.length, 2, forty)).toBeGreaterThan(whole.length * 0.4);
    for (let length = 1; length < whole.length; length += 5) {
      const path = write(ending, whole.subarray(0, length));
      expect(await refusal({ path })).toMatch(/cut short|damaged|is none|is not/);
      rmSync(path);
    }
  });

  /** Each bit of a Parquet file's bytes from one place to another, flipped: what is read is the same, or is refused. */
  async function everyFlip(whole: Uint8Array, from: number, to: number): Promise<void> {
    for (let at = from; at < to; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= 1 << bit;
        const path = write('.parquet', bytes);
        const outcome = await readTexts({ path }).catch((error) => error);
        rmSync(path);
        if (Array.isArray(outcome)) expect(outcome, `byte ${at}, bit ${bit}`).toEqual(forty);
        else {
          expect(outcome, `byte ${at}, bit ${bit}`).toMatchObject({ name: 'UserError' });
          expect(outcome.message, `byte ${at}, bit ${bit}`).not.toMatch(/NaN|undefined/);
        }
      }
    }
  }

  test("that are missing: a flipped bit of a Parquet page's header is read alike or refused, and ends", async () => {
    const whole = parquet(forty);
    const reader = { view: new DataView(new Uint8Array(whole).buffer), offset: 4 };
    parquetHeader(reader);
    await everyFlip(whole, 4, reader.offset);
  });

  test("that are missing: a flipped bit of a Parquet file's footer is read alike or refused", async () => {
    const whole = parquet(forty);
    const footer = whole.length - 8 - whole.readUInt32LE(whole.length - 8);
    await everyFlip(whole, footer, whole.length);
  });

  /** The first document, of a reader who wants no more. */
  const firstOf = async (path: string) => {
    for await (const { text } of readDocuments({ path })) return text;
    return undefined;
  };

  test.each([
    ['.jsonl.zst', Buffer.from(BY_ZSTD, 'base64'), 1],
    ['.jsonl.xz', Buffer.from(BY_XZ, 'base64'), 45],
    ['.jsonl.gz', gzipSync(forty.map((text) => `${JSON.stringify({ text })}\n`).join('')), 6],
    ['.txt.gz', gzipSync(forty.join('<|endoftext|>')), 6],
  ])('of %s are compared also where the end is not wanted', async (ending, whole, fromEnd) => {
    expect(await firstOf(write(ending, whole))).toBe(forty[0]);
    const bytes = Buffer.from(whole);
    bytes[bytes.length - fromEnd]! ^= 1;
    await expect(firstOf(write(ending, bytes))).rejects.toThrow(/checksum|damaged/);
  });

  test('are left where the rest of a file is large', async () => {
    const path = write('.bin', Buffer.alloc(100));
    const taken = async (most: number) => {
      let read = 0;
      const chunks = async function* () {
        for (; read < 5; ) yield Buffer.of(++read);
      };
      for await (const chunk of checkedToItsEnd(path, chunks(), most)) if (chunk[0] === 2) break;
      return read;
    };
    expect([await taken(100), await taken(99)]).toEqual([5, 2]);
  });

  test.each([
    ['data_page_offset', "footer too little is said of column 'text'"],
    ['total_compressed_size', "footer too little is said of column 'text'"],
    ['num_values', "footer too little is said of column 'text'"],
    ['all', "footer a group of rows has no column 'text'"],
  ])("that are missing: a Parquet footer without a column's %s is refused", async (key, message) => {
    const bytes = new Uint8Array(parquet(forty)).buffer;
    const file = { byteLength: bytes.byteLength, slice: (start: number, end?: number) => bytes.slice(start, end) };
    const [group] = parquetMetadata(bytes).row_groups;
    await checkPages('a.parquet', file, group!, 'text');
    const [chunk] = group!.columns;
    if (key === 'all') delete chunk!.meta_data;
    else delete (chunk!.meta_data as unknown as Record<string, unknown>)[key];
    await expect(checkPages('a.parquet', file, group!, 'text')).rejects.toThrow(
      `a.parquet: by the Parquet file's ${message}; the file is damaged, fetch it again.`,
    );
  });

  test("of Parquet's pages find a flipped bit", async () => {
    const whole = withPageChecksum(parquet(forty));
    const { row_groups } = parquetMetadata(new Uint8Array(whole).buffer);
    const chunk = row_groups[0]!.columns[0]!.meta_data!;
    const [start, end] = [Number(chunk.data_page_offset), Number(chunk.data_page_offset + chunk.total_compressed_size)];
    expect(await readTexts({ path: write('.parquet', whole) })).toEqual(forty);
    expect(await flips('.parquet', whole, end - 200, end, 1, forty)).toBe(200);
    expect(start).toBe(4);
    const bytes = Buffer.from(whole);
    bytes[end - 1]! ^= 1;
    expect(await refusal({ path: write('.parquet', bytes) })).toMatch(
      /the page at byte 4 \(column 'text'\) does not fit its checksum/,
    );
  });
});

/** The file of one page with a CRC-32 in the page's header. */
function withPageChecksum(file: Buffer): Buffer {
  const metadata = parquetMetadata(new Uint8Array(file).buffer);
  const chunk = metadata.row_groups[0]!.columns[0]!.meta_data!;
  const reader = { view: new DataView(new Uint8Array(file).buffer), offset: Number(chunk.data_page_offset) };
  const header = parquetHeader(reader);
  const page = file.subarray(reader.offset, reader.offset + header.compressed_page_size);
  const writer = new ByteWriter();
  writer.appendBytes(Buffer.from('PAR1'));
  writePageHeader(writer, { ...header, crc: crc32(page) | 0 });
  writer.appendBytes(page);
  chunk.total_compressed_size = BigInt(writer.offset - 4);
  writeMetadata(writer, metadata);
  writer.appendBytes(Buffer.from('PAR1'));
  return Buffer.from(writer.getBytes());
}
