// A shard is one file of whole documents: a header of 64 bytes, the tokens (uint16, or uint32 for a vocabulary above
// 65,536), and where each document ends (uint32, in tokens). Little-endian, as every machine that runs Node well.
import { UserError } from '@stickbreaking/base';
import { type FileBytes, openBytes } from './mapped_file.js';

const MAGIC = 'SBTOKEN1';
const HEADER_BYTES = 64;

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

  /** Adds a document's tokens and the token that ends it. */
  add(ids: ArrayLike<number>, eosId: number): void {
    const end = this.tokens + ids.length + 1;
    if (end > this.tokenArray.length) this.grow(end);
    this.tokenArray.set(ids, this.tokens);
    this.tokenArray[end - 1] = eosId;
    this.tokens = end;
    this.ends.push(end);
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
    private readonly file: FileBytes,
    readonly documents: number,
    readonly tokens: number,
    private readonly type: TokenType,
    private readonly ends: Uint32Array,
  ) {}

  /** Throws a UserError when the file is not a whole shard of the expected kind. */
  static open(path: string, expected: { type: TokenType; bytes: number }, options?: { mapped?: boolean }): Shard {
    const file = openBytes(path, options);
    try {
      const complain = (what: string) =>
        new UserError(`the token shard ${path} ${what}; remove its directory to tokenize again.`);
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
      const table = file.read(endsAt, file.size);
      const ends = new Uint32Array(table.buffer, table.byteOffset, documents);
      if (!isIncreasing(ends, tokens)) throw complain('has a damaged table of documents');
      return new Shard(file, documents, tokens, expected.type, ends);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Tokens of a document, its end-of-document token included. */
  length(document: number): number {
    return this.ends[document]! - this.start(document);
  }

  /** A document's tokens, its end-of-document token included, as a view where the file is mapped. */
  document(document: number): TokenArray {
    const width = bytesPerToken[this.type];
    const [start, end] = [this.start(document), this.ends[document]!];
    const bytes = this.file.read(HEADER_BYTES + start * width, HEADER_BYTES + end * width);
    return new (this.type === 'uint16' ? Uint16Array : Uint32Array)(bytes.buffer, bytes.byteOffset, end - start);
  }

  close(): void {
    this.file.close();
  }

  private start(document: number): number {
    return document === 0 ? 0 : this.ends[document - 1]!;
  }
}

function isIncreasing(ends: Uint32Array, last: number): boolean {
  let previous = 0;
  for (const end of ends) {
    if (end <= previous) return false;
    previous = end;
  }
  return previous === last;
}
