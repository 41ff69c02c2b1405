// WikiText's raw files: articles under headings of one equals sign, tokens apart by spaces. They are published as text
// (wiki.train.raw) and as rows of Parquet, a line each; both give the same articles here. The rules that tell articles
// apart and put them back into running text are those of lm-evaluation-harness's `wikitext` task, so that word
// perplexities compare.
import type { Piece } from './document_cutter.js';

/** What tells WikiText from other text stands near its beginning. */
export const LOOK_AHEAD = 100_000;

/** Whether a text, or its beginning, is WikiText. */
export function isWikiText(text: string): boolean {
  const begin = text.slice(0, LOOK_AHEAD);
  return / @[-,.]@ /.test(begin) && begin.split('\n').some((line) => /^ /.test(line) && isHeading(line));
}

/** Rows that are looked at to tell whether they are the lines of WikiText. */
export const LOOK_AHEAD_ROWS = 64;

/** Whether rows are lines of WikiText: each blank or between spaces, with a heading of any level among them. */
export function areWikiTextLines(rows: readonly string[]): boolean {
  return rows.every(isWikiTextLine) && rows.some((row) => row.startsWith(' = ') && row.trimEnd().endsWith(' ='));
}

export function isWikiTextLine(row: string): boolean {
  return row === '' || /^ (?:[^\n]* )?\n?$/.test(row);
}

/** A line of the raw file from a row of the published table, which leaves blank lines empty. */
export function lineOfRow(row: string): string {
  return row === '' ? ' ' : row.replace(/\n$/, '');
}

/** lm-evaluation-harness's rule for the heading of an article. */
function isHeading(line: string): boolean {
  const joined = line.replaceAll('= = =', '===').replaceAll('= =', '==').trim();
  return joined.startsWith('= ') && joined.endsWith(' =');
}

/** The articles in the lines of a raw file, put back into running text, beside what the file has. */
export async function* wikiTextDocuments(lines: AsyncIterable<string> | Iterable<string>): AsyncGenerator<Piece> {
  for await (const original of wikiTextPages(lines)) yield { text: detokenizeWikiText(original), original, last: true };
}

/** The articles in the lines of a raw file, each with its heading; blank ones are left out. */
export async function* wikiTextPages(lines: AsyncIterable<string> | Iterable<string>): AsyncGenerator<string> {
  let page: string[] = [];
  const whole = () => page.join('\n');
  for await (const line of lines) {
    if (isHeading(line)) {
      if (whole().trim() !== '') yield whole();
      page = [];
    }
    page.push(line);
  }
  if (whole().trim() !== '') yield whole();
}

/** Joins what the corpus's tokenizer took apart. */
export function detokenizeWikiText(page: string): string {
  let text = page.replaceAll("s '", "s'");
  for (const sign of ['-', ',', '.']) text = text.replaceAll(` @${sign}@ `, sign);
  for (const sign of [':', ';', '.', '!', '?', ',']) text = text.replaceAll(` ${sign} `, `${sign} `);
  for (const [open, close] of ['()', '[]', '{}', '""', "''"]) text = trimBetween(text, open!, close!);
  return text
    .replaceAll('= = = =', '====')
    .replaceAll('= = =', '===')
    .replaceAll('= =', '==')
    .replaceAll(' \u00b0 ', '\u00b0')
    .replaceAll(' \n', '\n')
    .replaceAll('\n ', '\n')
    .replaceAll(' N ', ' 1 ')
    .replaceAll(" 's", "'s");
}

/** `( a )` → `(a)`: the pattern `\(\s*([^)]*?)\s*\)` of the harness, in linear time. */
function trimBetween(text: string, open: string, close: string): string {
  const parts: string[] = [];
  let at = 0;
  for (let begin = text.indexOf(open); begin >= 0; begin = text.indexOf(open, at)) {
    const end = text.indexOf(close, begin + 1);
    if (end < 0) break;
    parts.push(text.slice(at, begin + 1), text.slice(begin + 1, end).trim(), close);
    at = end + 1;
  }
  return parts.join('') + text.slice(at);
}
