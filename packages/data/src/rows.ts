// Whole rows of a file of records, for data sets with more columns than a text.
import { shown, UserError } from '@stickbreaking/base';
import { withoutMark } from './byte_stream.js';
import { readDecompressed } from './decompress.js';
import { partsOf } from './kinds.js';
import { type PlacedRecord, readJsonLineRecords, readJsonValueRecords } from './records.js';
import { findFiles, type SourceFile, type SourceInput } from './sources.js';
import { TextCheck } from './utf8.js';

/**
 * Streams the rows of a source's files, as they come, with the columns of the file. 64-bit integers come as numbers, which
 * they must fit.
 *
 * @throws UserError for a file that is damaged or holds no records
 */
export async function* readRows(source: SourceInput): AsyncGenerator<Record<string, unknown>> {
  for (const file of await findFiles(source)) {
    for await (const { record, where } of await recordsOf(file)) {
      yield plain(record, where) as Record<string, unknown>;
    }
  }
}

async function recordsOf(file: SourceFile): Promise<AsyncGenerator<PlacedRecord>> {
  const { content, compression } = partsOf(file.format);
  if (content === 'parquet') return (await import('./parquet.js')).readParquetRecords(file);
  if (content === 'txt')
    throw new UserError(`${shown(file.path)} is running text; expected rows (.jsonl, .json, .parquet).`);
  const read = content === 'jsonl' ? readJsonLineRecords : readJsonValueRecords;
  return read(file, withoutMark(readDecompressed(file.path, compression)), new TextCheck(file));
}

/** A value as JSON would hold it. */
function plain(value: unknown, where: string): unknown {
  if (typeof value === 'bigint') {
    if (BigInt(Number(value)) === value) return Number(value);
    throw new UserError(`${where}: the number ${value} is too large.`);
  }
  if (value instanceof Uint8Array) throw new UserError(`${where}: there are bytes that are no UTF-8.`);
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value))
    return Array.from(value as unknown as ArrayLike<number | bigint>, (one) => plain(one, where));
  if (Array.isArray(value)) return value.map((one) => plain(one, where));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one, where)]));
}
