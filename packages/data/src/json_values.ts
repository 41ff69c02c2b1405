// Cuts a stream of JSON into values, so that an array of any length is read in memory bounded by its longest member.
import { shown, UserError } from '@stickbreaking/base';
import { Gathered, type Line } from './byte_stream.js';

const SPACES = new Set([...' \t\r\n'].map((character) => character.charCodeAt(0)));
const [QUOTE, BACKSLASH, COMMA, LINE_FEED] = [...'"\\,\n'].map((character) => character.charCodeAt(0));
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [...'[]{}'].map((character) => character.charCodeAt(0));

/**
 * The members of one array, or values that follow each other, each with the line it begins in. Whether a value is
 * valid is for its parser to say.
 */
export async function* splitValues(stream: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Line> {
  const cutter = new ValueCutter(path);
  for await (const chunk of stream) yield* cutter.push(chunk);
  yield* cutter.end();
}

class ValueCutter {
  /** 1 in the members of an array, 0 in a sequence of values; not known before the first byte. */
  private base: 0 | 1 | undefined;
  private depth = 0;
  private inString = false;
  private escaped = false;
  /** In an array: its last comma has no member after it yet. */
  private afterComma = false;
  /** The array has ended. */
  private closed = false;
  private line = 1;
  private offset = 0;
  private first = { number: 1, offset: 0 };
  private hasMembers = false;
  private readonly value: Gathered;

  constructor(private readonly path: string) {
    this.value = new Gathered(() => `${shown(path)}, line ${this.first.number}`);
  }

  *push(chunk: Uint8Array): Generator<Line> {
    /** Where the value at hand begins in this chunk. */
    let start = this.value.length > 0 ? 0 : undefined;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === LINE_FEED) this.line++;
      if (this.inString) {
        this.stepInString(byte);
        continue;
      }
      if (start === undefined && this.isBetween(byte)) continue;
      if (start !== undefined && this.endsBefore(byte)) {
        this.value.add(chunk.subarray(start, at));
        start = undefined;
        yield this.take();
        this.isBetween(byte);
        continue;
      }
      if (start === undefined) {
        start = at;
        this.afterComma = false;
        this.first = { number: this.line, offset: this.offset + at };
      }
      if (byte === QUOTE) this.inString = true;
      else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) this.depth++;
      else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) this.depth--;
    }
    if (start !== undefined) this.value.add(chunk.subarray(start));
    this.offset += chunk.length;
  }

  *end(): Generator<Line> {
    if (this.base === 1 && !this.closed) {
      throw new UserError(`${shown(this.path)}: the JSON array is cut short; fetch the file again.`);
    }
    if (this.value.length > 0) yield this.take();
  }

  /** Whether a byte outside of values belongs to none: space, and in an array its commas and its end. */
  private isBetween(byte: number): boolean {
    if (SPACES.has(byte)) return true;
    if (this.closed)
      throw new UserError(`${shown(this.path)}, line ${this.line}: there is more after the array's end.`);
    if (this.base === undefined) {
      this.base = byte === OPEN_ARRAY ? 1 : 0;
      this.depth = this.base;
      return this.base === 1;
    }
    if (this.base === 0 || (byte !== CLOSE_ARRAY && byte !== COMMA)) return false;
    if (this.afterComma || (byte === COMMA && !this.hasMembers)) {
      throw new UserError(`${shown(this.path)}, line ${this.line}: a member of the JSON array is missing.`);
    }
    this.closed = byte === CLOSE_ARRAY;
    this.afterComma = byte === COMMA;
    return true;
  }

  /** Whether the value at hand ends before this byte. */
  private endsBefore(byte: number): boolean {
    if (this.depth !== this.base) return false;
    return this.base === 1 ? byte === COMMA || byte === CLOSE_ARRAY : SPACES.has(byte);
  }

  private stepInString(byte: number): void {
    if (this.escaped) this.escaped = false;
    else if (byte === BACKSLASH) this.escaped = true;
    else if (byte === QUOTE) this.inString = false;
  }

  private take(): Line {
    this.hasMembers = true;
    return { bytes: this.value.take(), ...this.first };
  }
}
