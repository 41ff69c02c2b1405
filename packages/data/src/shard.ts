// A shard is one file of whole documents: a header of 64 bytes, the tokens (uint16, or uint32 for a vocabulary above
// 65,536), and where each document ends (uint32, in tokens). Little-endian, as every machine that runs Node well.
import { shown, UserError } from '@stickbreaking/base';
import { FileReader } from './file_reader.js';

const MAGIC = 'SBTOKEN1';
const HEADER_BYTES = 64;

/** Tokens as they are stored: 16 bits, or 32 for a vocabulary above 65,536. */
export type TokenArray = Uint16Array | Uint32Array;
export type TokenType = 'uint16' | 'uint32';

export function tokenType(vocabSize: number): TokenType {
  return vocabSize <= 2 ** 16 ? 'uint16' : 'uint32';
}

const bytesPerToken = { uint16: 2, uint32: 4 } as const;

/** Collects documents until they fill a shard. */
export class ShardBuilder {
  private tokenArray: TokenArray;
  private readonly ends: number[] = [];
  tokens = 0;

  constructor(
    private readonly type: TokenType,
    capacity: number,
  ) {
    this.tokenArray = type === 'uint16' ? new Uint16Array(capacity) : new Uint32Array(capacity);
  }

  get documents(): number {
    return this.ends.length;
  }

  /** Adds tokens to the document at hand. */
  append(ids: ArrayLike<number>): void {
    const end = this.tokens + ids.length;
    // One more, so that the document's end has its place.
    if (end >= this.tokenArray.length) this.grow(end + 1);
    this.tokenArray.set(ids, this.tokens);
    this.tokens = end;
  }

  /** Ends the document at hand, if it has any tokens. */
  endDocument(eosId: number): void {
    if (this.tokens === (this.ends.at(-1) ?? 0)) return;
    this.append([eosId]);
    this.ends.push(this.tokens);
  }

  /** The file, in parts. */
  finish(): Uint8Array[] {
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, 'latin1');
    header.writeUInt32LE(bytesPerToken[this.type], 8);
    header.writeUInt32LE(this.documents, 12);
    header.writeUInt32LE(this.tokens, 16);
    const tokens = new Uint8Array(this.tokenArray.buffer, 0, this.tokens * bytesPerToken[this.type]);
    const padding = new Uint8Array(padTo4(tokens.length) - tokens.length);
    return [header, tokens, padding, new Uint8Array(Uint32Array.from(this.ends).buffer)];
  }

  private grow(needed: number): void {
    if (needed > 0xffff_ffff) throw new UserError('a shard cannot hold more than 4,294,967,295 tokens.');
    const larger = new (this.tokenArray.constructor as Uint32ArrayConstructor)(
      Math.max(needed, this.tokenArray.length * 2),
    );
    larger.set(this.tokenArray.subarray(0, this.tokens));
    this.tokenArray = larger;
  }
}

const padTo4 = (bytes: number) => (bytes + 3) & ~3;

/** An open shard. */
export class Shard {
  private constructor(
    private readonly file: FileReader,
    readonly documents: number,
    readonly tokens: number,
    private readonly type: TokenType,
    private readonly endsAt: number,
  ) {}

  /** Throws a UserError when the file is not a whole shard of the expected kind. */
  static open(path: string, expected: { type: TokenType; bytes: number }): Shard {
    const file = new FileReader(path);
    try {
      const complain = (what: string) =>
        new UserError(`the token shard ${shown(path)} ${what}; remove its directory to tokenize again.`);
      if (file.size !== expected.bytes) {
        throw complain(`is damaged: it has ${file.size} bytes and should have ${expected.bytes}`);
      }
      const header = Buffer.from(file.read(0, Math.min(HEADER_BYTES, file.size)));
      if (header.length < HEADER_BYTES || header.toString('latin1', 0, 8) !== MAGIC)
        throw complain('is damaged: no header');
      const width = bytesPerToken[expected.type];
      const [documents, tokens] = [header.readUInt32LE(12), header.readUInt32LE(16)];
      const endsAt = HEADER_BYTES + padTo4(tokens * width);
      if (header.readUInt32LE(8) !== width || endsAt + 4 * documents !== file.size)
        throw complain('has a damaged header');
      if (!hasIncreasingEnds(file, endsAt, tokens)) throw complain('has a damaged table of documents');
      return new Shard(file, documents, tokens, expected.type, endsAt);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Tokens of a document, its end-of-document token included. */
  length(document: number): number {
    const [start, end] = this.range(document);
    return end - start;
  }

  /** Tokens `from` up to `to` of a document; default: all, its end-of-document token included. */
  document(document: number, from = 0, to?: number): TokenArray {
    const width = bytesPerToken[this.type];
    const [begin, documentEnd] = this.range(document);
    const [start, end] = [begin + from, to === undefined ? documentEnd : begin + to];
    const { buffer } = this.file.read(HEADER_BYTES + start * width, HEADER_BYTES + end * width);
    return this.type === 'uint16' ? new Uint16Array(buffer) : new Uint32Array(buffer);
  }

  close(): void {
    this.file.close();
  }

  /** Where a document's tokens are: the end of the one before, and its own. */
  private range(document: number): [start: number, end: number] {
    const at = this.endsAt + 4 * document;
    const first = document === 0;
    const ends = new Uint32Array(this.file.read(first ? at : at - 4, at + 4).buffer);
    return first ? [0, ends[0]!] : [ends[0]!, ends[1]!];
  }
}

function hasIncreasingEnds(file: FileReader, endsAt: number, last: number): boolean {
  const step = 2 ** 20;
  let previous = 0;
  for (let at = endsAt; at < file.size; at += step) {
    for (const end of new Uint32Array(file.read(at, Math.min(file.size, at + step)).buffer)) {
      if (end <= previous) return false;
      previous = end;
    }
  }
  return previous === last;
}
