// Parquet, one column and one row group at a time.
import { open } from 'node:fs/promises';
import { explainSystemError, UserError } from '@stickbreaking/base';
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { SourceFile } from './sources.js';

/** The texts of a Parquet file's column, in row order. */
export async function* readParquet({ path, field, size }: SourceFile): AsyncGenerator<string> {
  const handle = await open(path, 'r').catch((error) => {
    throw explainSystemError(error, `cannot read ${path}`);
  });
  try {
    const file: AsyncBuffer = {
      byteLength: size,
      async slice(start, end = size) {
        const buffer = new Uint8Array(end - start);
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, start);
        if (bytesRead < buffer.length) throw new UserError(`${path}: the file ended early; was it changed meanwhile?`);
        return buffer.buffer;
      },
    };
    const metadata = await damaged(path, () => readMetadata(path, file));
    checkColumn(path, field, metadata);
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows);
      const rows = await damaged(path, () =>
        parquetReadObjects({ file, metadata, columns: [field], rowStart, rowEnd, compressors, parsers }),
      );
      if (rows.length !== rowEnd - rowStart) throw new UserError(`${path}: rows are missing; the file is damaged.`);
      for (let i = 0; i < rows.length; i++) yield textOf(rows[i]![field], path, field, rowStart + i);
      rowStart = rowEnd;
    }
  } finally {
    await handle.close();
  }
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

function textOf(value: unknown, path: string, field: string, row: number): string {
  if (typeof value === 'string') return value;
  const where = `${path}, row ${row + 1}`;
  if (value instanceof Uint8Array) throw new UserError(`${where}: invalid UTF-8 in '${field}'; convert it to UTF-8.`);
  if (value === null || value === undefined) throw new UserError(`${where}: '${field}' is missing (null).`);
  throw new UserError(`${where}: '${field}' is no text but ${typeof value}.`);
}

async function readMetadata(path: string, file: AsyncBuffer): Promise<FileMetaData> {
  const magic = async (start: number) => Buffer.from(await file.slice(start, start + 4)).toString('latin1');
  if (file.byteLength < 12 || (await magic(0)) !== 'PAR1') throw new UserError(`${path} is not a Parquet file.`);
  if ((await magic(file.byteLength - 4)) !== 'PAR1') {
    throw new UserError(`${path}: the Parquet file is cut short (its footer is missing); fetch it again.`);
  }
  return parquetMetadataAsync(file);
}

function checkColumn(path: string, field: string, metadata: FileMetaData): void {
  const columns = parquetSchema(metadata).children.map((child) => child.element.name);
  if (columns.includes(field)) return;
  throw new UserError(`${path} has no column '${field}'; it has ${columns.map((name) => `'${name}'`).join(', ')}.`);
}

/** What the decoders throw on a damaged file is theirs to word; the file's name is added and the stack left out. */
async function damaged<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const told = explainSystemError(error, `cannot read ${path}`);
    if (told instanceof UserError) throw told;
    const reason = String((error as Error)?.message ?? error).split('\n')[0];
    throw new UserError(`${path}: the Parquet file is damaged or cut short (${reason}).`, { cause: error });
  }
}
