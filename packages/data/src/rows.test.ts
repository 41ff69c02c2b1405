import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, expect, test } from 'vitest';
import { testFolder } from './reading.fixture.js';
import { readRows } from './rows.js';
import type { SourceInput } from './sources.js';

const folder = testFolder('rows');
afterAll(folder.remove);

async function rows(source: SourceInput): Promise<object[]> {
  const found: object[] = [];
  for await (const row of readRows(source)) found.push(row);
  return found;
}

const given = [
  { question: 'Why?', choices: { text: ['a', 'é'], label: ['A', 'B'] }, answer: 1 },
  { question: 'How?', choices: { text: ['c'], label: ['A'] }, answer: -3 },
];

test('rows come whole, the same from every kind of file', async () => {
  const lines = given.map((row) => `${JSON.stringify(row)}\n`).join('');
  const flat = given.map(({ question, answer }) => ({ question, answer, big: 2 ** 40 }));
  const columnData = [
    { name: 'question', data: flat.map((row) => row.question), type: 'STRING' as const },
    { name: 'answer', data: flat.map((row) => row.answer), type: 'INT32' as const },
    { name: 'big', data: flat.map((row) => BigInt(row.big)), type: 'INT64' as const },
    { name: 'choices', data: given.map((row) => row.choices), type: 'JSON' as const },
  ];
  const parquet = folder.write('.parquet', Buffer.from(parquetWriteBuffer({ columnData })));
  expect(await rows({ path: folder.write('.jsonl', lines) })).toEqual(given);
  expect(await rows({ path: folder.write('.json', JSON.stringify(given)) })).toEqual(given);
  expect(await rows({ path: parquet })).toEqual(given.map((row) => ({ ...row, big: 2 ** 40 })));
});

/** Two rows as pyarrow writes them: a struct of lists, a text, a 64-bit integer. */
const NESTED =
  'UEFSMRUAFTQVNiwVBhUAFQYVBhwAAAAaGAIAAAADAgQBBjikAAACAAAAdXACAAAAw6kVABUwFTIsFQYVABUGFQYcAAAAGBgCAAAAAwIEAQYwpAAAAQAAAEEBAAAAQhUAFR4VIiwVBBUAFQYVBhwAAAAPOAIAAAAEAQEAAABBAAAAABUAFSwVMCwVBBUAFQYVBhwAAAAWVAIAAAAEAQAAAAAAAQAA//////////8VBBmsNQAYBnNjaGVtYRUGADUCGAdjaG9pY2VzFQQANQIYBHRleHQVAhUGTDwAAAA1BBgEbGlzdBUCABUMJQIYB2VsZW1lbnQlAEwcAAAANQIYBWxhYmVsFQIVBkw8AAAANQQYBGxpc3QVAgAVDCUCGAdlbGVtZW50JQBMHAAAABUMJQIYCWFuc3dlcktleSUATBwAAAAVBCUCGAFuABYEGRwZTCYAHBUMGSUGABlIB2Nob2ljZXMEdGV4dARsaXN0B2VsZW1lbnQVAhYGFloWXCYISRwVABUAFQIAPBYIGSYEAhlWAAACAAQAAAAmABwVDBklBgAZSAdjaG9pY2VzBWxhYmVsBGxpc3QHZWxlbWVudBUCFgYWVhZYJmRJHBUAFQAVAgA8FgQZJgQCGVYAAAIABAAAACYAHBUMGSUGABkYCWFuc3dlcktleRUCFgQWRBZIJrwBSRwVABUAFQIAPBYCGQYZJgAEAAAAJgAcFQQZJQYAGRgBbhUCFgQWUhZWJoQCSRwVABUAFQIAPCkGGSYABAAAABbGAhYEJggW0gIAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI1LjAuMRlMHAAAHAAAHAAAHAAAANMBAABQQVIx';

test('structs of lists come as the Hub has them', async () => {
  expect(await rows({ path: folder.write('.parquet', Buffer.from(NESTED, 'base64')) })).toEqual([
    { choices: { text: ['up', 'é'], label: ['A', 'B'] }, answerKey: 'A', n: 2 ** 40 },
    { choices: { text: [], label: [] }, answerKey: '', n: -1 },
  ]);
});

test('what is no row is refused in one line', async () => {
  await expect(rows({ path: folder.write('.txt', 'text') })).rejects.toThrow('is running text; expected rows');
  await expect(rows({ path: folder.write('.jsonl', '[1]') })).rejects.toThrow('line 1: expected a JSON object');
  const columnData = [{ name: 'n', data: [2n ** 60n + 1n], type: 'INT64' as const }];
  const path = folder.write('.parquet', Buffer.from(parquetWriteBuffer({ columnData })));
  await expect(rows({ path })).rejects.toThrow('row 1: the number 1152921504606846977 is too large.');
});
