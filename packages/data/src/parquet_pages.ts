// The checksums of Parquet's pages: writers may put a CRC-32 of a page's bytes, as they lie in the file, into its header
// (PageHeader.crc of https://github.com/apache/parquet-format). `hyparquet` does not look at them.
import { crc32 } from 'node:zlib';
import { shown, UserError } from '@stickbreaking/base';
import type { AsyncBuffer, RowGroup } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';

type PageHeader = ReturnType<typeof parquetHeader>;

/**
 * Throws a UserError where a page of the column does not fit its checksum, runs over its column's end, or has a header that
 * does not say what the reader goes by, which would then read on for ever.
 */
export async function checkPages(path: string, file: AsyncBuffer, group: RowGroup, column: string): Promise<void> {
  const chunks = group.columns.flatMap(({ meta_data: chunk }) => (chunk?.path_in_schema[0] === column ? [chunk] : []));
  if (chunks.length === 0) throw footerFault(path, column, 'a group of rows has no column');
  for (const chunk of chunks) {
    const { data_page_offset, dictionary_page_offset = 0n, total_compressed_size, num_values } = chunk;
    if (
      ![data_page_offset, dictionary_page_offset, total_compressed_size, num_values].every(
        (value) => typeof value === 'bigint',
      )
    )
      throw footerFault(path, chunk.path_in_schema.join('.'), 'too little is said of column');
    const start = Number(dictionary_page_offset || data_page_offset);
    const length = Number(total_compressed_size);
    const fault = (at: number, what: string) =>
      new UserError(
        `${shown(path)}: the page at byte ${start + at} (column '${shown(chunk.path_in_schema.join('.'))}') ${what}; the file is damaged, fetch it again.`,
      );
    if (!(start >= 4 && length >= 0 && start + length <= file.byteLength)) throw fault(0, 'lies outside of the file');
    const bytes = new Uint8Array(await file.slice(start, start + length));
    const reader = { view: new DataView(bytes.buffer), offset: 0 };
    let [values, nulls] = [0, 0];
    // Writers count the nulls of nested columns in different ways.
    let nullsAreTold = chunk.path_in_schema.length === 1 && chunk.statistics?.null_count !== undefined;
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
      if (crc !== undefined && crc32(page) !== crc >>> 0) throw fault(at, 'does not fit its checksum');
      reader.offset += size;
    }
    if (values < chunk.num_values) throw fault(0, `and those after it hold ${values} of ${chunk.num_values} values`);
    if (nullsAreTold && BigInt(nulls) !== chunk.statistics!.null_count)
      throw fault(0, `and those after it hold ${nulls} of ${chunk.statistics!.null_count} nulls`);
  }
}

const footerFault = (path: string, column: string, what: string) =>
  new UserError(
    `${shown(path)}: by the Parquet file's footer ${what} '${shown(column)}'; the file is damaged, fetch it again.`,
  );

const isCount = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;

/** Whether a page's header has the fields that its kind requires, in their bounds. */
function isComplete(header: PageHeader): boolean {
  const { type, data_page_header: first, data_page_header_v2: second, dictionary_page_header: dictionary } = header;
  const size = header.uncompressed_page_size;
  if (!isCount(size) || !isCount(header.compressed_page_size)) return false;
  if (type === 'DATA_PAGE') return first !== undefined && isCount(first.num_values) && first.encoding !== undefined;
  // No value of a dictionary is smaller than a bit.
  if (type === 'DICTIONARY_PAGE')
    return dictionary !== undefined && isCount(dictionary.num_values) && dictionary.num_values <= 8 * size;
  if (type !== 'DATA_PAGE_V2') return true;
  if (second === undefined || second.encoding === undefined) return false;
  const { num_values, num_nulls, num_rows } = second;
  const levels = [second.definition_levels_byte_length, second.repetition_levels_byte_length];
  return (
    [num_values, num_nulls, num_rows, ...levels].every(isCount) &&
    num_nulls <= num_values &&
    levels[0]! + levels[1]! <= size
  );
}

function valuesOf({ type, data_page_header, data_page_header_v2 }: PageHeader): number {
  if (type === 'DATA_PAGE') return data_page_header!.num_values;
  return type === 'DATA_PAGE_V2' ? data_page_header_v2!.num_values : 0;
}
