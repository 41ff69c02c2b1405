// Parquet, one row group at a time: one column as text, or whole rows.
import { type FileHandle, open } from 'node:fs/promises';
import { explainSystemError, reasonIn, shown, UserError } from '@stickbreaking/base';
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaTree,
} from 'hyparquet';
import { checkedCompressors } from './parquet_codecs.js';
import { checkPages, isCount } from './parquet_pages.js';
import { type PlacedRecord, type RowText, textIn } from './records.js';
import type { SourceFile } from './sources.js';
import type { TextCheck } from './utf8.js';

/** The texts of a Parquet file's column, in row order; null where a row has none. */
export async function* readParquet(file: SourceFile, check: TextCheck): AsyncGenerator<RowText> {
  const { path, field } = file;
  const columns = (metadata: FileMetaData) => [columnOf(path, field, metadata)];
  for await (const { record, where } of readRowGroups(file, columns)) yield textIn(record, field, where, check);
}

/** The rows of a Parquet file, whole. */
export function readParquetRecords(file: SourceFile): AsyncGenerator<PlacedRecord> {
  return readRowGroups(file, (metadata) => parquetSchema(metadata).children.map(({ element }) => element.name));
}

async function* readRowGroups(
  { path, size, onRead }: SourceFile,
  columnsOf: (metadata: FileMetaData) => string[],
): AsyncGenerator<PlacedRecord> {
  const handle = await open(path, 'r').catch((error) => {
    throw explainSystemError(error, `cannot read ${shown(path)}`);
  });
  try {
    const bytes: AsyncBuffer = { byteLength: size, slice: (start, end = size) => readRange(handle, path, start, end) };
    const metadata = await damaged(path, () => readMetadata(path, bytes));
    // A schema that says more columns than it lists is met here.
    const columns = await damaged(path, async () => columnsOf(metadata));
    const single = await damaged(path, async () => singleColumns(metadata));
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows);
      if (rowEnd === rowStart) continue;
      const rows = await damaged(path, async () => {
        for (const column of columns) await checkPages(path, bytes, group, column);
        return parquetReadObjects({
          file: bytes,
          metadata,
          columns,
          rowStart,
          rowEnd,
          compressors: checkedCompressors,
          parsers,
        });
      });
      if (rows.length !== rowEnd - rowStart)
        throw new UserError(`${shown(path)}: rows are missing; the file is damaged.`);
      for (const [i, record] of rows.entries()) {
        const where = `${shown(path)}, row ${rowStart + i + 1}`;
        checkPresent(record, single, where);
        yield { record, where };
      }
      onRead?.((size * (rowEnd - rowStart)) / Number(metadata.num_rows));
      rowStart = rowEnd;
    }
  } finally {
    await handle.close();
  }
}

/** Columns that have no others inside. */
const singleColumns = (metadata: FileMetaData) =>
  new Set(parquetSchema(metadata).children.flatMap(({ element, children }) => (children.length ? [] : [element.name])));

/** What is null in a file is null in its rows too: `undefined` is where the reader looked for a value that is not there. */
function checkPresent(record: Record<string, unknown>, single: ReadonlySet<string>, where: string): void {
  for (const [column, value] of Object.entries(record)) {
    if (value === undefined && single.has(column))
      throw new UserError(
        `${where}: column '${shown(column)}' has no value where it should have one; the file is damaged, fetch it again.`,
      );
  }
}

async function readRange(handle: FileHandle, path: string, start: number, end: number): Promise<ArrayBuffer> {
  const buffer = new Uint8Array(Math.max(0, end - start));
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await handle.read(buffer, done, buffer.length - done, start + done);
    if (bytesRead === 0) throw new UserError(`${shown(path)}: the file ended early; was it changed meanwhile?`);
    done += bytesRead;
  }
  return buffer.buffer;
}

/** Bytes that are no UTF-8 are handed through undecoded, so that the row can be named where they turn up. */
const parsers = {
  stringFromBytes(bytes: Uint8Array | undefined) {
    if (!bytes) return bytes;
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return bytes;
    }
  },
} as { stringFromBytes(bytes: Uint8Array): string };

async function readMetadata(path: string, file: AsyncBuffer): Promise<FileMetaData> {
  const magic = async (start: number) => Buffer.from(await file.slice(start, start + 4)).toString('latin1');
  if (file.byteLength < 12 || (await magic(0)) !== 'PAR1') throw new UserError(`${shown(path)} is not a Parquet file.`);
  if ((await magic(file.byteLength - 4)) !== 'PAR1') {
    throw new UserError(`${shown(path)}: the Parquet file is cut short (its footer is missing); fetch it again.`);
  }
  const metadata = await parquetMetadataAsync(file);
  if (!metadata.schema.every(({ name }) => typeof name === 'string'))
    throw new UserError(`${shown(path)}: the Parquet file is damaged (its schema has a column without a name).`);
  const rowCounts = metadata.row_groups.map((group) => group.num_rows);
  if (![metadata.num_rows, ...rowCounts].every(isCount))
    throw new UserError(
      `${shown(path)}: the Parquet file is damaged (its footer has something else where a number of rows belongs).`,
    );
  const rows = rowCounts.reduce((sum, count) => sum + count, 0n);
  if (rows !== metadata.num_rows) {
    throw new UserError(
      `${shown(path)}: the Parquet file is damaged (it has ${metadata.num_rows} rows, and its groups have ${rows}).`,
    );
  }
  return metadata;
}

/** The column that holds the field: the one of its name, or the one that its path begins with (`row` of `row.text`). */
function columnOf(path: string, field: string, metadata: FileMetaData): string {
  const { children } = parquetSchema(metadata);
  const named = (tree: readonly SchemaTree[], name: string) => tree.find(({ element }) => element.name === name);
  if (named(children, field)) return field;
  const [column, ...inside] = field.split('.');
  let at = named(children, column!);
  for (const name of inside) at = at && named(at.children, name);
  if (at) return column!;
  const columns = children.flatMap((child) => leavesOf(child, ''));
  const some = columns.slice(0, 20).map((name) => `'${shown(name)}'`);
  if (some.length === 0) throw new UserError(`${shown(path)} has no columns, by its schema; the file may be damaged.`);
  throw new UserError(
    `${shown(path)} has no column '${shown(field)}'; it has ${some.join(', ')}${columns.length > some.length ? ', …' : ''}.`,
  );
}

/** Columns as `field` names them. */
function leavesOf({ element, children }: SchemaTree, prefix: string): string[] {
  const name = `${prefix}${element.name}`;
  return children.length === 0 ? [name] : children.flatMap((child) => leavesOf(child, `${name}.`));
}

/** What the decoders throw on a damaged file is theirs to word; the file's name is added and the stack left out. */
async function damaged<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const told = explainSystemError(error, `cannot read ${shown(path)}`);
    if (told instanceof UserError) throw told;
    const reason = reasonIn(error);
    // A value that was not there tells nobody anything.
    const said = reason === undefined || /\b(NaN|undefined)\b/.test(reason) ? '' : ` (${reason})`;
    throw new UserError(`${shown(path)}: the Parquet file is damaged or cut short${said}.`, { cause: error });
  }
}
