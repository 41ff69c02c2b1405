// Documents, one after the other, from whatever files a source names. Memory stays bounded by the largest document
// (.txt, .jsonl) or row group (.parquet).
import { UserError } from '@stickbreaking/base';
import { type Line, readBytes, readLines, readZstd } from './byte_stream.js';
import { readParquet } from './parquet.js';
import { listFiles, type SourceFile, type SourceInput } from './sources.js';
import { decodeUtf8, firstInvalidByte, invalidUtf8 } from './utf8.js';

export interface TextDocument {
  text: string;
  /** absolute path of the file it comes from */
  source: string;
  /** 0-based position in that file */
  index: number;
}

/**
 * Streams a source's documents in the order of its files.
 * Throws a UserError, with the file and line or row, for anything that is not readable text.
 */
export async function* readDocuments(source: SourceInput): AsyncGenerator<TextDocument> {
  for (const file of listFiles(source)) {
    let index = 0;
    for await (const text of readFileTexts(file)) yield { text, source: file.path, index: index++ };
  }
}

/** The texts of one file. A file without any is an error. */
export async function* readFileTexts(file: SourceFile): AsyncGenerator<string> {
  let found = false;
  for await (const text of readers[file.format](file)) {
    found = true;
    yield text;
  }
  if (!found) throw new UserError(`${file.path} holds no document.`);
}

const readers: Record<SourceFile['format'], (file: SourceFile) => AsyncIterable<string>> = {
  txt: (file) => (file.split === 'file' ? readWhole(file.path) : readParts(file.path, file.split)),
  jsonl: (file) => readRecords(file, readBytes(file.path)),
  'jsonl.zst': (file) => readRecords(file, readZstd(file.path)),
  parquet: readParquet,
};

/** A file as one document, decoded as it is read: the error names the byte without holding the file in memory twice. */
async function* readWhole(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  let offset = 0;
  for await (const chunk of readBytes(path)) {
    try {
      text += decoder.decode(chunk, { stream: true });
    } catch (error) {
      if (error instanceof RangeError) throw new UserError(`${path}: too large for one document; set split.`);
      // The first bytes may end a character of the chunk before.
      const skip = continuationBytes(chunk);
      throw invalidUtf8(path, offset + skip + firstInvalidByte(chunk.subarray(skip)));
    }
    offset += chunk.length;
  }
  try {
    text += decoder.decode();
  } catch {
    throw invalidUtf8(path, offset);
  }
  if (text.trim().length > 0) yield text;
}

function continuationBytes(bytes: Uint8Array): number {
  let count = 0;
  while (count < 3 && ((bytes[count] ?? 0) & 0xc0) === 0x80) count++;
  return count;
}

async function* readParts(path: string, split: 'line' | 'blank-line'): AsyncGenerator<string> {
  let part: string[] = [];
  for await (const line of readLines(readBytes(path))) {
    const text = decodeLine(path, line).replace(/\r$/, '');
    const blank = text.trim().length === 0;
    if (!blank) part.push(text);
    if (part.length > 0 && (blank || split === 'line')) {
      yield part.join('\n');
      part = [];
    }
  }
  if (part.length > 0) yield part.join('\n');
}

async function* readRecords({ path, field }: SourceFile, stream: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  for await (const line of readLines(stream)) {
    const json = decodeLine(path, line);
    if (json.trim().length === 0) continue;
    const where = `${path}, line ${line.number}`;
    const record = parse(json, where);
    if (typeof record !== 'object' || record === null || Array.isArray(record)) {
      throw new UserError(`${where}: expected a JSON object with a field '${field}'.`);
    }
    if (!Object.hasOwn(record, field)) {
      const fields = Object.keys(record)
        .slice(0, 8)
        .map((name) => `'${name}'`);
      throw new UserError(`${where}: there is no field '${field}'; the record has ${fields.join(', ') || 'none'}.`);
    }
    const text = (record as Record<string, unknown>)[field];
    if (typeof text !== 'string') {
      throw new UserError(`${where}: '${field}' is no text but ${text === null ? 'null' : typeof text}.`);
    }
    yield text;
  }
}

function decodeLine(path: string, { bytes, number, offset }: Line): string {
  return decodeUtf8(bytes, `${path}, line ${number}`, offset);
}

function parse(json: string, where: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    const reason = (error as Error).message.replaceAll(/\s+/g, ' ').slice(0, 120);
    throw new UserError(`${where}: invalid JSON (${reason}).`);
  }
}
