// .txt files: a whole file is a document, or what stands between end texts, or its lines or paragraphs.
import { shown } from '@stickbreaking/base';
import { readLines } from './byte_stream.js';
import { DocumentCutter, type Piece } from './document_cutter.js';
import type { SourceFile } from './sources.js';
import type { TextCheck } from './utf8.js';
import { isWikiText, LOOK_AHEAD, wikiTextDocuments } from './wikitext.js';

/** A file as one document, cut at end texts; WikiText's raw files are told by their beginning and cut into articles. */
export async function* readRunningText(
  chunks: AsyncGenerator<string>,
  endTexts: readonly string[],
): AsyncGenerator<Piece> {
  let begin = '';
  while (begin.length < LOOK_AHEAD) {
    const { done, value } = await chunks.next();
    if (done) break;
    begin += value;
  }
  try {
    if (isWikiText(begin)) {
      yield* wikiTextDocuments(linesOf(begin, chunks));
      return;
    }
    const cutter = new DocumentCutter(endTexts);
    yield* cutter.push(begin);
    for await (const text of chunks) yield* cutter.push(text);
    yield* cutter.end();
  } finally {
    await chunks.return(undefined); // of a reader that ends before it
  }
}

/** The lines of a text as `split('\n')` gives them. */
async function* linesOf(begin: string, chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let lines = begin.split('\n');
  for await (const chunk of chunks) {
    const last = lines.pop()!;
    yield* lines;
    lines = (last + chunk).split('\n');
  }
  yield* lines;
}

/** Lines, or runs of lines between blank ones, as documents. */
export async function* readTextParts(
  file: SourceFile,
  bytes: AsyncIterable<Uint8Array>,
  check: TextCheck,
  endTexts: readonly string[],
): AsyncGenerator<Piece> {
  const cutter = new DocumentCutter(endTexts);
  let begun = false;
  for await (const line of readLines(bytes, file.path)) {
    const text = check.decode(line.bytes, `${shown(file.path)}, line ${line.number}`, line.offset).replace(/\r$/, '');
    const blank = text.trim().length === 0;
    if (!blank) yield* cutter.push(begun ? `\n${text}` : text);
    begun ||= !blank;
    if (begun && (blank || file.split === 'line')) {
      yield* cutter.end();
      begun = false;
    }
  }
  yield* cutter.end();
}
