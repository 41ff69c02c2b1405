// Parquet's pages before `hyparquet` reads them, which takes much of what their headers say on trust: where they lie, their
// sizes, their numbers of values and nulls, the entries of a dictionary, and the checksum, a CRC-32 of a page's bytes as they
// lie in the file, which writers may put into its header (PageHeader.crc of https://github.com/apache/parquet-format).
import { crc32 } from 'node:zlib';
import { shown, UserError } from '@stickbreaking/base';
import type { AsyncBuffer, ColumnMetaData, RowGroup } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { checkedCompressors } from './parquet_codecs.js';

type PageHeader = ReturnType<typeof parquetHeader>;

/**
 * Throws a UserError where a page of the column does not fit its checksum, runs over its column's end, holds a dictionary of
 * another size than it says, or has a header that does not say what the reader goes by, which would then read on for ever;
 * and where the pages together do not have the column's values and nulls.
 */
export async function checkPages(path: string, file: AsyncBuffer, group: RowGroup, column: string): Promise<void> {
  const chunks = group.columns.flatMap(({ meta_data: chunk }) => (chunk?.path_in_schema[0] === column ? [chunk] : []));
  if (chunks.length === 0) throw footerFault(path, `a group of rows has no column '${shown(column)}'`);
  for (const chunk of chunks) {
    const { data_page_offset, dictionary_page_offset = 0n, total_compressed_size, num_values } = chunk;
    const name = `column '${shown(chunk.path_in_schema.join('.'))}'`;
    const told = [data_page_offset, dictionary_page_offset, total_compressed_size, num_values];
    if (told.some((value) => typeof value !== 'bigint')) throw footerFault(path, `too little is said of ${name}`);
    const start = Number(dictionary_page_offset || data_page_offset);
    const length = Number(total_compressed_size);
    const fault = (at: number, what: string) =>
      new UserError(
        `${shown(path)}: the page at byte ${start + at} (${name}) ${what}; the file is damaged, fetch it again.`,
      );
    if (!(start >= 4 && length >= 0 && start + length <= file.byteLength))
      throw footerFault(path, `the pages of ${name} lie outside of the file`);
    if (!isCount(num_values)) throw footerFault(path, `${name} has ${num_values} values`);
    const nullCount = chunk.statistics?.null_count;
    if (nullCount !== undefined && !isCount(nullCount))
      throw footerFault(path, `${name} has something else where its number of nulls belongs`);
    const bytes = new Uint8Array(await file.slice(start, start + length));
    const reader = { view: new DataView(bytes.buffer), offset: 0 };
    let [values, nulls] = [0, 0];
    // Writers count the nulls of nested columns in different ways.
    let nullsAreTold = chunk.path_in_schema.length === 1 && nullCount !== undefined;
    while (reader.offset < length) {
      const at = reader.offset;
      const header = parquetHeader(reader);
      const { crc, compressed_page_size: size } = header;
      if (!isComplete(header)) throw fault(at, 'has a header that says too little');
      values += valuesOf(header);
      nulls += header.data_page_header_v2?.num_nulls ?? 0;
      if (header.type === 'DATA_PAGE') nullsAreTold = false;
      if (values > chunk.num_values) throw fault(at, 'has more values than its column');
      const page = bytes.subarray(reader.offset, reader.offset + size);
      if (!(size >= 0 && page.length === size)) throw fault(at, 'runs over its column');
      if (isStoredPlain(header, chunk) && size !== header.uncompressed_page_size)
        throw fault(at, `holds ${size} bytes, and should hold ${header.uncompressed_page_size}`);
      if (crc !== undefined && crc32(page) !== crc >>> 0) throw fault(at, 'does not fit its checksum');
      if (header.type === 'DICTIONARY_PAGE' && !isWholeDictionary(page, header, chunk))
        throw fault(at, `does not hold the ${header.dictionary_page_header!.num_values} entries that it should`);
      reader.offset += size;
    }
    if (values < chunk.num_values) throw fault(0, `and those after it hold ${values} of ${chunk.num_values} values`);
    if (nullsAreTold && BigInt(nulls) !== nullCount)
      throw fault(0, `and those after it hold ${nulls} of ${nullCount} nulls`);
  }
}

const footerFault = (path: string, what: string) =>
  new UserError(`${shown(path)}: by the Parquet file's footer ${what}; the file is damaged, fetch it again.`);

/** Whether a number of 64 bits, as the footer has them, can be a count: in a damaged file it may be anything. */
export const isCount = (value: unknown): value is bigint => typeof value === 'bigint' && value >= 0n;

const isSize = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;

/** Whether a page's header has the fields that its kind requires, in their bounds. */
function isComplete(header: PageHeader): boolean {
  const { type, data_page_header: first, data_page_header_v2: second, dictionary_page_header: dictionary } = header;
  const size = header.uncompressed_page_size;
  if (!isSize(size) || !isSize(header.compressed_page_size)) return false;
  if (type === 'DATA_PAGE') return first !== undefined && isSize(first.num_values) && first.encoding !== undefined;
  // No value of a dictionary is smaller than a bit.
  if (type === 'DICTIONARY_PAGE')
    return dictionary !== undefined && isSize(dictionary.num_values) && dictionary.num_values <= 8 * size;
  if (type !== 'DATA_PAGE_V2') return true;
  if (second === undefined || second.encoding === undefined) return false;
  const { num_values, num_nulls, num_rows } = second;
  const levels = [second.definition_levels_byte_length, second.repetition_levels_byte_length];
  return (
    [num_values, num_nulls, num_rows, ...levels].every(isSize) &&
    num_nulls <= num_values &&
    levels[0]! + levels[1]! <= size
  );
}

/** Whether the page lies in the file as it is. */
const isStoredPlain = ({ type, data_page_header_v2: second }: PageHeader, { codec }: ColumnMetaData) =>
  codec === 'UNCOMPRESSED' || (type === 'DATA_PAGE_V2' && second!.is_compressed === false);

/** Bytes of a value of each type that has a fixed length. */
const WIDTHS: Readonly<Record<string, number>> = { INT32: 4, INT64: 8, INT96: 12, FLOAT: 4, DOUBLE: 8 };

/** Whether a dictionary's entries fill its page: an index beyond them would be read as a null. */
function isWholeDictionary(page: Uint8Array, header: PageHeader, { codec, type }: ColumnMetaData): boolean {
  const { num_values: count } = header.dictionary_page_header!;
  const decompress = codec === 'UNCOMPRESSED' ? undefined : checkedCompressors[codec];
  const bytes = decompress ? decompress(page, header.uncompressed_page_size) : page;
  if (type !== 'BYTE_ARRAY') return WIDTHS[type] === undefined || bytes.length === count * WIDTHS[type];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [at, entries] = [0, 0];
  for (; entries < count && at + 4 <= bytes.length; entries++) at += 4 + view.getUint32(at, true);
  return entries === count && at === bytes.length;
}

function valuesOf({ type, data_page_header, data_page_header_v2 }: PageHeader): number {
  if (type === 'DATA_PAGE') return data_page_header!.num_values;
  return type === 'DATA_PAGE_V2' ? data_page_header_v2!.num_values : 0;
}
