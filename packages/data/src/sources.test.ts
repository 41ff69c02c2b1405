import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readLines } from './byte_stream.js';
import { readDocuments } from './documents.js';
import { listFiles, SourceConfigSchema, type SourceInput } from './sources.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sb-sources-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
function write(ending: string, content: string | Uint8Array): string {
  const path = join(directory, `${++files}${ending}`);
  writeFileSync(path, content);
  return path;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function texts(source: SourceInput): Promise<string[]> {
  return (await collect(readDocuments(source))).map((document) => document.text);
}

/** The message, which must be one line of a user's mistake. */
async function refusal(source: SourceInput): Promise<string> {
  const error = await texts(source).then(
    () => expect.fail('nothing was refused'),
    (error) => error,
  );
  expect(error).toMatchObject({ name: 'UserError', message: expect.stringMatching(/^.+$/) });
  return error.message;
}

/** A Zstandard frame of stored blocks (RFC 8878), of a few sizes. */
function zstdFrame(content: Uint8Array, blockBytes = 7): Uint8Array {
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58])]; // magic, no flags, a window of 2 MiB
  for (let start = 0; start < content.length || start === 0; start += blockBytes) {
    const block = content.subarray(start, start + blockBytes);
    const header = (block.length << 3) | (start + blockBytes >= content.length ? 1 : 0);
    parts.push(Buffer.from([header & 255, (header >> 8) & 255, header >> 16]), Buffer.from(block));
  }
  return Buffer.concat(parts);
}

/** Forty records through `zstd -19 --check`. */
const BY_ZSTD =
  'KLUv/QRo7QMAUkUSF4BPB3BrFgZM503IGKgPsSTlDLNtKlUP////v23btt22bdsmyGEUxF0ga4KDnojJK1Lw5YMZDEm5RqqmjJOTKgcuTWnRcrFhASioEfDr/x2AM0oPEfzvEDiEf37//fe9/9uf7dh+7a292ql92qV1tENTSkn7Go5BVAOV0r7i';

const records = [{ text: 'one' }, { text: 'two\nlines — ünïcödé 日本' }, { text: 'x'.repeat(5000), meta: { n: 1 } }];
const expected = records.map((record) => record.text);
const jsonl = `${records.map((record) => JSON.stringify(record)).join('\n')}\n`;
const parquet = (columns: Parameters<typeof parquetWriteBuffer>[0]['columnData']) =>
  new Uint8Array(parquetWriteBuffer({ columnData: columns, rowGroupSize: 2 }));

describe('reading', () => {
  test('every format gives the same documents', async () => {
    const utf8 = Buffer.from(jsonl);
    const text = parquet([
      { name: 'id', data: [1, 2, 3], type: 'INT32' },
      { name: 'text', data: expected, type: 'STRING' },
    ]);
    expect(await texts({ path: write('.jsonl', jsonl) })).toEqual(expected);
    expect(await texts({ path: write('.jsonl', jsonl.replaceAll('\n', '\r\n\r\n').trimEnd()) })).toEqual(expected);
    expect(await texts({ path: write('.jsonl.zst', zstdFrame(utf8)) })).toEqual(expected);
    expect(await texts({ path: write('.parquet', text) })).toEqual(expected);
    expect(await texts({ path: expected.map((content) => write('.txt', content)) })).toEqual(expected);
  });

  test('Zstandard files of several frames, of the zstd command, and of Node where it compresses', async () => {
    const half = jsonl.length >> 1;
    const [a, b] = [Buffer.from(jsonl.slice(0, half)), Buffer.from(jsonl.slice(half))];
    expect(await texts({ path: write('.jsonl.zst', Buffer.concat([zstdFrame(a), zstdFrame(b, 1000)])) })).toEqual(
      expected,
    );
    const numbered = Array.from({ length: 40 }, (_, i) => `Document number ${i}, of forty alike.`);
    expect(await texts({ path: write('.jsonl.zst', Buffer.from(BY_ZSTD, 'base64')) })).toEqual(numbered);
    const compress = (zlib as { zstdCompressSync?: (data: Uint8Array) => Uint8Array }).zstdCompressSync;
    if (compress) expect(await texts({ path: write('.jsonl.zst', compress(Buffer.from(jsonl))) })).toEqual(expected);
  });

  test('a field by name, and a format by name', async () => {
    const path = write('.data', '{"text": 1, "content": "a"}\n{"content": "b"}');
    expect(await texts({ path, field: 'content', format: 'jsonl' })).toEqual(['a', 'b']);
  });

  test('a .txt file split at lines or at blank lines', async () => {
    const path = write('.txt', '\n a\r\nb\n\n \nc');
    expect(await texts({ path, split: 'line' })).toEqual([' a', 'b', 'c']);
    expect(await texts({ path, split: 'blank-line' })).toEqual([' a\nb', 'c']);
  });

  test('directories and globs give their files sorted, a name with brackets is a name', async () => {
    const folder = join(directory, 'folder');
    mkdirSync(join(folder, 'deep'), { recursive: true });
    for (const name of ['b.txt', '[a].txt', 'deep/c.txt', 'README.md']) writeFileSync(join(folder, name), name);
    expect(await texts({ path: folder })).toEqual(['[a].txt', 'b.txt', 'deep/c.txt']);
    expect(await texts({ path: join(folder, '*.txt') })).toEqual(['[a].txt', 'b.txt']);
    expect(await texts({ path: [join(folder, 'b.txt'), join(folder, '**/*.txt')] })).toEqual([
      'b.txt',
      '[a].txt',
      'deep/c.txt',
    ]);
    expect(await texts({ path: join(folder, '[a].txt') })).toEqual(['[a].txt']);
  });

  test('lines come out whole however the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('a', 'bc', '\n'), { maxLength: 30 }),
        fc.integer({ min: 1, max: 5 }),
        async (parts, step) => {
          const whole = Buffer.from(parts.join(''));
          async function* stream() {
            for (let i = 0; i < whole.length; i += step) yield whole.subarray(i, i + step);
          }
          const lines = await collect(readLines(stream(), 'stream'));
          expect(lines.map((line) => Buffer.from(line.bytes).toString())).toEqual(
            whole.toString().replace(/\n$/, '').split('\n').slice(0, lines.length),
          );
          expect(lines.length).toBe(whole.length === 0 ? 0 : whole.toString().replace(/\n$/, '').split('\n').length);
          for (const line of lines)
            expect(whole.subarray(line.offset, line.offset + line.bytes.length)).toEqual(Buffer.from(line.bytes));
        },
      ),
    );
  });
});

describe('refusing', () => {
  test('files that are missing, empty, of an unknown kind or without documents', async () => {
    expect(await refusal({ path: join(directory, 'none.txt') })).toMatch(/none\.txt: there is no such file/);
    expect(await refusal({ path: join(directory, '*.none') })).toMatch(/no file matches/);
    expect(await refusal({ path: write('.txt', '') })).toMatch(/is empty/);
    expect(await refusal({ path: write('.jsonl', '\n\n') })).toMatch(/holds no document/);
    expect(await refusal({ path: write('.csv', 'a,b') })).toMatch(/unknown kind of file; expected \.txt/);
    const folder = join(directory, 'no-text');
    mkdirSync(folder);
    expect(await refusal({ path: folder })).toMatch(/the directory .* holds no/);
  });

  test.each([
    '[,{"text":"a"}]',
    '[{"text":"a"},]',
    '[{"text":"a"},,{"text":"b"}]',
    '[,]',
    '[{"text":"a"} {"text":"b"}]',
  ])('a JSON array in which something is missing: %s', async (json) => {
    expect(await refusal({ path: write('.json', json) })).toMatch(/line 1: (a member .* is missing|invalid JSON)/);
  });

  test('a Zstandard file cut anywhere', async () => {
    const frame = zstdFrame(Buffer.from('{"text":"some text"}\n{"text":"more"}\n'));
    for (let length = 1; length < frame.length; length++) {
      expect(await refusal({ path: write('.jsonl.zst', frame.subarray(0, length)) })).toMatch(/cut short|damaged/);
    }
    expect(await refusal({ path: write('.jsonl.zst', jsonl) })).toMatch(/is not Zstandard/);
  });

  test('a Parquet file cut short, damaged, or without the column', async () => {
    const path = write('.parquet', parquet([{ name: 'text', data: expected, type: 'STRING' }]));
    const whole = readFileSync(path);
    for (const length of [1, 8, 13, whole.length >> 1, whole.length - 8, whole.length - 1]) {
      expect(await refusal({ path: write('.parquet', whole.subarray(0, length)) })).toMatch(/Parquet file/);
    }
    const noData = Buffer.from(whole).fill(0xff, 4, whole.length >> 2);
    expect(await refusal({ path: write('.parquet', noData) })).toMatch(/damaged/);
    expect(await refusal({ path, field: 'content' })).toMatch(/has no column 'content'; it has 'text'/);
  });

  test('text that is not UTF-8, with the line and the byte', async () => {
    const bad = Buffer.from('{"text":"fine"}\n{"text":"caf\xe9"}\n', 'latin1');
    expect(await refusal({ path: write('.jsonl', bad) })).toMatch(/line 2: invalid UTF-8 near byte 28/);
    expect(await refusal({ path: write('.jsonl.zst', zstdFrame(bad)) })).toMatch(/line 2: invalid UTF-8 near byte 28/);
    expect(await refusal({ path: write('.txt', Buffer.from('caf\xe9 noir', 'latin1')) })).toMatch(
      /invalid UTF-8 near byte 3/,
    );
    expect(await refusal({ path: write('.txt', Buffer.from('é').subarray(0, 1)) })).toMatch(/invalid UTF-8/);
    const late = Buffer.concat([Buffer.from('é'.repeat(600_000)), Buffer.from([0xff])]);
    expect(await refusal({ path: write('.txt', late) })).toMatch(/invalid UTF-8 near byte 1200000/);
    const column = parquet([{ name: 'text', data: [Buffer.from('ok'), Buffer.from([0xff])], type: 'BYTE_ARRAY' }]);
    expect(await refusal({ path: write('.parquet', column) })).toMatch(/row 2, 'text': invalid UTF-8 near byte 0/);
  });

  test('records without the text', async () => {
    const line = (content: string) => refusal({ path: write('.jsonl', `{"text":"a"}\n${content}`) });
    expect(await line('{"content":"b"}')).toMatch(/line 2: there is no field 'text'; the record has 'content'/);
    expect(await line('{"text":3}')).toMatch(/line 2: 'text' is not text but number/);
    expect(await line('["text"]')).toMatch(/line 2: expected a JSON object/);
    expect(await line('{"text":"b"')).toMatch(/line 2: invalid JSON/);
    const numbers = parquet([{ name: 'text', data: [1, 2], type: 'INT32' }]);
    expect(await refusal({ path: write('.parquet', numbers) })).toMatch(/row 1: 'text' is not text but number/);
  });

  test('a source described wrongly', async () => {
    expect(await refusal({ path: 'x.txt', filed: 'text' } as never)).toMatch(/filed/);
    expect(await refusal({ path: 'x.txt', weight: -1 })).toMatch(/key 'weight'/);
    expect(SourceConfigSchema.parse({ path: 'x' })).toMatchObject({ field: 'text', weight: 1, split: 'file' });
  });

  test('leaves the directory as it was', () => {
    expect(readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    expect(() => listFiles({ path: join(directory, 'none') })).toThrow(/no such file/);
  });
});
