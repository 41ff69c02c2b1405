// The checksums of Parquet's pages: writers may put a CRC-32 of a page's bytes, as they lie in the file, into its header
// (PageHeader.crc of https://github.com/apache/parquet-format). `hyparquet` does not look at them.
import { crc32 } from 'node:zlib';
import { shown, UserError } from '@stickbreaking/base';
import type { AsyncBuffer, RowGroup } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';

/** Throws a UserError where a page of the column does not fit its checksum, or runs over its column's end. */
export async function checkPages(path: string, file: AsyncBuffer, group: RowGroup, column: string): Promise<void> {
  for (const { meta_data: chunk } of group.columns) {
    if (chunk?.path_in_schema[0] !== column) continue;
    const start = Number(chunk.dictionary_page_offset || chunk.data_page_offset);
    const length = Number(chunk.total_compressed_size);
    const fault = (at: number, what: string) =>
      new UserError(
        `${shown(path)}: the page at byte ${start + at} (column '${shown(chunk.path_in_schema.join('.'))}') ${what}; the file is damaged, fetch it again.`,
      );
    if (!(start >= 4 && length >= 0 && start + length <= file.byteLength)) throw fault(0, 'lies outside of the file');
    const bytes = new Uint8Array(await file.slice(start, start + length));
    const reader = { view: new DataView(bytes.buffer), offset: 0 };
    while (reader.offset < length) {
      const at = reader.offset;
      const { crc, compressed_page_size: size } = parquetHeader(reader);
      const page = bytes.subarray(reader.offset, reader.offset + size);
      if (!(size >= 0 && page.length === size)) throw fault(at, 'runs over its column');
      if (crc !== undefined && crc32(page) !== crc >>> 0) throw fault(at, 'does not fit its checksum');
      reader.offset += size;
    }
  }
}
