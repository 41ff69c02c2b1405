// Documents, one after the other, from whatever files a source names: the one reader of text of every command. A long
// document comes in pieces, so that memory stays bounded by a piece (.txt), a record (JSON) or a row group (Parquet).
import { shown, UserError } from '@stickbreaking/base';
import { withoutMark } from './byte_stream.js';
import { readDecompressed } from './decompress.js';
import { DocumentCutter, type Piece } from './document_cutter.js';
import { type Content, partsOf } from './kinds.js';
import { type OnNotice, tellOnce } from './notices.js';
import { type RowText, readJsonLines, readJsonValues } from './records.js';
import { findFiles, type SourceFile, type SourceInput } from './sources.js';
import { readRunningText, readTextParts } from './text_file.js';
import { TextCheck } from './utf8.js';
import {
  areWikiTextLines,
  isWikiText,
  isWikiTextLine,
  LOOK_AHEAD_ROWS,
  lineOfRow,
  wikiTextDocuments,
} from './wikitext.js';

/** One document of a source. */
export interface TextDocument {
  text: string;
  /** as its file has it, where `text` was put back into running text (WikiText) */
  original?: string;
  /** absolute path of the file it comes from */
  source: string;
  /** 0-based position in that file */
  index: number;
}

/** A document, or a stretch of a long one. */
export interface TextPiece extends TextDocument {
  /** The document ends here. */
  last: boolean;
}

/** Options of `readDocuments`. */
export interface ReadOptions {
  /** Texts at which a document is cut, the tokenizer's end token for one. Default: `<|endoftext|>`. */
  endTexts?: readonly string[];
  /** Reports what is skipped or replaced; default: a line on stderr. */
  onNotice?: OnNotice;
  /** Ends after so many documents. */
  limit?: number | undefined;
}

/**
 * Streams the documents of a source, or of several one after the other, in the order of their files.
 * Throws a UserError, with the file and line or row, for anything that is not readable text, and for a document that is
 * too long to be one string: `readPieces` reads those too.
 */
export async function* readDocuments(
  source: SourceInput | readonly SourceInput[],
  options: ReadOptions = {},
): AsyncGenerator<TextDocument> {
  let begun = '';
  for await (const { last, ...piece } of readPieces(source, options)) {
    if (begun.length + piece.text.length > LONGEST_STRING) {
      throw new UserError(
        `${shown(piece.source)}: document ${piece.index + 1} is too long to be read at once; set split to line or blank-line, or put <|endoftext|> between documents.`,
      );
    }
    begun += piece.text;
    if (!last) continue;
    yield { ...piece, text: begun };
    begun = '';
  }
}

const LONGEST_STRING = 2 ** 29 - 64;

/** As `readDocuments`, with long documents in pieces. */
export async function* readPieces(
  source: SourceInput | readonly SourceInput[],
  options: ReadOptions = {},
): AsyncGenerator<TextPiece> {
  let documents = 0;
  for (const one of [source].flat() as SourceInput[]) {
    for await (const piece of piecesOf(one, options)) {
      yield piece;
      if (piece.last && ++documents === options.limit) return;
    }
  }
}

async function* piecesOf(source: SourceInput, options: ReadOptions): AsyncGenerator<TextPiece> {
  const files = await findFiles(source, options.onNotice);
  const empty: SourceFile[] = [];
  for (const file of files) {
    let found = false;
    for await (const piece of readFilePieces(file, options)) {
      found = true;
      yield piece;
    }
    if (!found) empty.push(file);
  }
  checkSomeText(files, empty, options.onNotice);
}

/** Parts without a document are told; a source of nothing else is refused. */
export function checkSomeText(
  files: readonly SourceFile[],
  empty: readonly SourceFile[],
  onNotice: OnNotice = tellOnce,
): void {
  if (empty.length === files.length) throw noDocument(files);
  for (const { path } of empty) onNotice(`${shown(path)} holds no document.`);
}

function noDocument(files: readonly SourceFile[]): UserError {
  const names = files.slice(0, 3).map(({ path }) => shown(path));
  const which = `${names.join(', ')}${files.length > names.length ? ', …' : ''}`;
  return new UserError(`${which} ${files.length === 1 ? 'holds' : 'hold'} no document.`);
}

/** The documents of one file. None is no error: it may be one part of many. */
export async function* readFilePieces(
  file: SourceFile,
  { endTexts = ['<|endoftext|>'], onNotice = tellOnce }: ReadOptions = {},
): AsyncGenerator<TextPiece> {
  const check = new TextCheck(file);
  let index = 0;
  try {
    for await (const piece of readers[partsOf(file.format).content](file, check, endTexts, onNotice)) {
      yield { ...piece, source: file.path, index };
      if (piece.last) index++;
    }
  } finally {
    check.tell(onNotice);
  }
}

type Reader = (
  file: SourceFile,
  check: TextCheck,
  endTexts: readonly string[],
  onNotice: OnNotice,
) => AsyncIterable<Piece>;

const bytesOf = ({ path, format, onRead }: SourceFile) =>
  withoutMark(readDecompressed(path, partsOf(format).compression, onRead));

const readers: Record<Content, Reader> = {
  txt: (file, check, endTexts) =>
    file.split === 'file'
      ? readRunningText(check.decodeStream(bytesOf(file)), endTexts)
      : readTextParts(file, bytesOf(file), check, endTexts),
  jsonl: (file, check, endTexts, onNotice) =>
    documentsOfRows(file, readJsonLines(file, bytesOf(file), check), endTexts, onNotice),
  json: (file, check, endTexts, onNotice) =>
    documentsOfRows(file, readJsonValues(file, bytesOf(file), check), endTexts, onNotice),
  async *parquet(file, check, endTexts, onNotice) {
    const { readParquet } = await import('./parquet.js'); // with hyparquet, for those who have such files
    yield* documentsOfRows(file, readParquet(file, check), endTexts, onNotice);
  },
};

/** Rows are documents, unless they are the lines of WikiText. */
async function* documentsOfRows(
  file: SourceFile,
  rows: AsyncIterable<RowText>,
  endTexts: readonly string[],
  onNotice: OnNotice,
): AsyncGenerator<Piece> {
  const texts = withoutNulls(file, rows, onNotice);
  const begin: string[] = [];
  const first = texts[Symbol.asyncIterator]();
  while (begin.length < LOOK_AHEAD_ROWS && begin.every(isWikiTextLine)) {
    const { done, value } = await first.next();
    if (done) break;
    begin.push(value);
  }
  const all = chain(begin, first);
  if (areWikiTextLines(begin)) yield* wikiTextDocuments(linesOfRows(all));
  else yield* documentsOfTexts(all, endTexts);
}

async function* documentsOfTexts(texts: AsyncIterable<string>, endTexts: readonly string[]): AsyncGenerator<Piece> {
  const cutter = new DocumentCutter(endTexts);
  for await (const text of texts) {
    if (isWikiText(text)) {
      yield* wikiTextDocuments(text.split('\n'));
    } else {
      yield* cutter.push(text);
      yield* cutter.end();
    }
  }
}

/** The file that the rows were made from ends with a line feed. */
async function* linesOfRows(rows: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const row of rows) yield lineOfRow(row);
  yield '';
}

async function* withoutNulls(
  file: SourceFile,
  rows: AsyncIterable<RowText>,
  onNotice: OnNotice,
): AsyncGenerator<string> {
  let [row, nulls, first] = [0, 0, 0];
  try {
    for await (const text of rows) {
      row++;
      if (text !== null) {
        yield text;
        continue;
      }
      nulls++;
      first ||= row;
    }
  } finally {
    if (nulls > 0) onNotice(leftOut(file, nulls, first));
  }
}

function leftOut(file: SourceFile, nulls: number, first: number): string {
  const records = nulls === 1 ? `record ${first} has` : `${nulls} records, number ${first} the first, have`;
  return `${shown(file.path)}: ${records} no text ('${shown(file.field)}' is null) and ${nulls === 1 ? 'is' : 'are'} left out.`;
}

async function* chain<T>(begin: readonly T[], rest: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    yield* begin;
    yield* { [Symbol.asyncIterator]: () => rest };
  } finally {
    await rest.return?.(); // of a reader that ends before it
  }
}
