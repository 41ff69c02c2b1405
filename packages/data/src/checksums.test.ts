// Checksums that files carry: a flipped bit is found, wherever it is.
import { rmSync } from 'node:fs';
import { brotliCompressSync, crc32, gzipSync } from 'node:zlib';
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

  /** Each bit of a Parquet file's bytes at these places flipped: what is read is the same, or is refused. */
  async function everyFlip(whole: Uint8Array, places: readonly number[], same: readonly string[]): Promise<void> {
    for (const at of places) {
      for (let bit = 0; bit < 8; bit++) {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= 1 << bit;
        const path = write('.parquet', bytes);
        const outcome = await readTexts({ path }).catch((error) => error);
        rmSync(path);
        if (Array.isArray(outcome)) expect(outcome, `byte ${at}, bit ${bit}`).toEqual(same);
        else {
          expect(outcome, `byte ${at}, bit ${bit}`).toMatchObject({ name: 'UserError' });
          expect(outcome.message, `byte ${at}, bit ${bit}`).not.toMatch(
            /NaN|undefined|\d,\d|it has \.|(byte|has) -\d+ rows/,
          );
        }
      }
    }
  }

  const compressors = {
    GZIP: (page: Uint8Array) => gzipSync(page),
    BROTLI: (page: Uint8Array) => brotliCompressSync(page),
  };
  const inGroups = (codec: 'UNCOMPRESSED' | 'SNAPPY' | 'GZIP' | 'BROTLI', data: string[], rows: number) =>
    Buffer.from(
      parquetWriteBuffer({
        columnData: [{ name: 'text', data, type: 'STRING' }],
        codec,
        compressors,
        rowGroupSize: [rows],
      }),
    );
  const ofSeven = forty.map((_, i) => `text ${i % 7}`);

  test.each([
    ['one group', parquet(forty), forty],
    ['uncompressed groups', inGroups('UNCOMPRESSED', forty, 14), forty],
    ['groups with dictionaries', inGroups('UNCOMPRESSED', ofSeven, 20), ofSeven],
    ['Snappy groups with dictionaries', inGroups('SNAPPY', ofSeven, 20), ofSeven],
    ['Brotli groups', inGroups('BROTLI', forty, 20), forty],
  ])(
    "that are missing: a flipped bit of Parquet's page headers is read alike or refused, of %s",
    async (_, whole, texts) => {
      await everyFlip(whole, headerPlaces(whole), texts);
    },
  );

  test.each([
    ['uncompressed groups', inGroups('UNCOMPRESSED', forty, 20), forty],
    ['gzip groups with dictionaries', inGroups('GZIP', ofSeven, 20), ofSeven],
  ])(
    "that are missing: a flipped bit of a Parquet file's footer is read alike or refused, of %s",
    async (_, whole, texts) => {
      const footer = whole.length - 8 - whole.readUInt32LE(whole.length - 8);
      await everyFlip(
        whole,
        Array.from({ length: whole.length - footer }, (_, i) => footer + i),
        texts,
      );
    },
  );

  test('that are missing: a codec of one group that is wrong by a bit is named', async () => {
    const whole = inGroups('UNCOMPRESSED', forty, 20);
    const footer = whole.length - 8 - whole.readUInt32LE(whole.length - 8);
    const messages: string[] = [];
    for (let at = footer; at < whole.length - 8; at++) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 8; // UNCOMPRESSED is 0, BROTLI 4, which is written as 8
      const codecs = codecsOf(bytes);
      if (codecs.includes('BROTLI')) messages.push(await refusal({ path: write('.parquet', bytes) }));
    }
    expect(messages.map((message) => message.replace(/^.*parquet: /, ''))).toEqual(
      Array(2).fill('the Parquet file is damaged or cut short (a page is not what BROTLI makes).'),
    );
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

/** The codec of each row group, none where the footer cannot be read. */
function codecsOf(file: Buffer): (string | undefined)[] {
  try {
    return parquetMetadata(new Uint8Array(file).buffer).row_groups.map(({ columns }) => columns[0]?.meta_data?.codec);
  } catch {
    return [];
  }
}

/** The places of the bytes of the headers of all pages. */
function headerPlaces(file: Buffer): number[] {
  const view = new DataView(new Uint8Array(file).buffer);
  return parquetMetadata(view.buffer as ArrayBuffer).row_groups.flatMap(({ columns }) => {
    const { data_page_offset, dictionary_page_offset, total_compressed_size } = columns[0]!.meta_data!;
    const start = Number(dictionary_page_offset || data_page_offset);
    const places: number[] = [];
    for (const reader = { view, offset: start }; reader.offset < start + Number(total_compressed_size); ) {
      const at = reader.offset;
      const { compressed_page_size } = parquetHeader(reader);
      for (let place = at; place < reader.offset; place++) places.push(place);
      reader.offset += compressed_page_size;
    }
    return places;
  });
}
