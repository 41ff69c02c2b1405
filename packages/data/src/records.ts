// Records of JSON: one value a line, or values in an array or one after the other. Where a record's text is, and what
// becomes of one that has none.
import { shown, UserError } from '@stickbreaking/base';
import { type Line, readLines } from './byte_stream.js';
import { splitValues } from './json_values.js';
import type { SourceFile } from './sources.js';
import type { TextCheck } from './utf8.js';

/** The text of a record, null where the record says that it has none. */
export type RowText = string | null;

/** One record, and where it stands. */
export interface PlacedRecord {
  record: object;
  where: string;
}

/** One record a line (.jsonl, .ndjson). Blank lines are none. */
export async function* readJsonLineRecords(
  file: SourceFile,
  bytes: AsyncIterable<Uint8Array>,
  check: TextCheck,
): AsyncGenerator<PlacedRecord> {
  for await (const line of readLines(bytes, file.path)) yield* recordOfLine(file, line, check);
}

/** One array of records, or records one after the other, over as many lines as they like (.json). */
export async function* readJsonValueRecords(
  file: SourceFile,
  bytes: AsyncIterable<Uint8Array>,
  check: TextCheck,
): AsyncGenerator<PlacedRecord> {
  for await (const value of splitValues(bytes, file.path)) yield* recordOfLine(file, value, check);
}

/** The text of each record. */
const textsOf = (read: typeof readJsonLineRecords) =>
  async function* (file: SourceFile, bytes: AsyncIterable<Uint8Array>, check: TextCheck): AsyncGenerator<RowText> {
    for await (const { record, where } of read(file, bytes, check)) yield textIn(record, file.field, where, check);
  };
export const readJsonLines = textsOf(readJsonLineRecords);
export const readJsonValues = textsOf(readJsonValueRecords);

function* recordOfLine(file: SourceFile, { bytes, number, offset }: Line, check: TextCheck): Generator<PlacedRecord> {
  const where = `${shown(file.path)}, line ${number}`;
  const json = check.decode(bytes, where, offset);
  if (json.trim().length === 0) return;
  const record = parseJson(json, where);
  if (typeof record !== 'object' || record === null || Array.isArray(record)) {
    const advice = Array.isArray(record) && file.format.startsWith('jsonl') ? ', or format: json for one array' : '';
    throw new UserError(`${where}: expected a JSON object with a field '${shown(file.field)}'${advice}.`);
  }
  yield { record, where };
}

/**
 * The text of a record: its field of that name, or, where it has none and the name has dots, the field that it leads to.
 * @throws UserError where there is no such field, or it holds no text
 */
export function textIn(record: object, field: string, where: string, check: TextCheck): RowText {
  const value = valueIn(record, field, where);
  if (value === null) return null;
  if (typeof value === 'string') return check.wellFormed(value, where);
  if (value instanceof Uint8Array) return check.decode(value, `${where}, '${shown(field)}'`);
  throw new UserError(`${where}: '${shown(field)}' is not text but ${Array.isArray(value) ? 'a list' : typeof value}.`);
}

function valueIn(record: object, field: string, where: string): unknown {
  const path = Object.hasOwn(record, field) ? [field] : field.split('.');
  let value: unknown = record;
  for (const [depth, name] of path.entries()) {
    if (value === null || value === undefined) return null;
    if (typeof value !== 'object' || Array.isArray(value) || !Object.hasOwn(value, name)) {
      const inside = depth === 0 ? 'the record' : `'${shown(path.slice(0, depth).join('.'))}'`;
      const has = typeof value === 'object' && !Array.isArray(value) ? names(value as object) : 'no fields';
      throw new UserError(`${where}: there is no field '${shown(field)}'; ${inside} has ${has}.`);
    }
    value = (value as Record<string, unknown>)[name];
  }
  return value ?? null;
}

function names(record: object): string {
  const some = Object.keys(record).slice(0, 8);
  return some.map((name) => `'${shown(name)}'`).join(', ') || 'none';
}

/** Parses JSON. Python writes NaN and Infinity, which JSON does not have: they become null. */
export function parseJson(json: string, where: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    const mended = withoutNotNumbers(json);
    if (mended !== json) return parseJson(mended, where);
    throw new UserError(`${where}: invalid JSON (${shown((error as Error).message)}).`);
  }
}

/** Strings are left as they are. */
function withoutNotNumbers(json: string): string {
  const parts: string[] = [];
  for (let at = 0; at < json.length; ) {
    const quote = json.indexOf('"', at);
    const end = quote < 0 ? json.length : quote;
    parts.push(json.slice(at, end).replace(/(?<![\w.+-])(?:NaN|-?Infinity)(?![\w.])/g, 'null'));
    at = quote < 0 ? json.length : endOfString(json, quote);
    parts.push(json.slice(end, at));
  }
  return parts.join('');
}

function endOfString(json: string, begin: number): number {
  for (let at = begin + 1; at < json.length; at++) {
    if (json[at] === '\\') at++;
    else if (json[at] === '"') return at + 1;
  }
  return json.length;
}
