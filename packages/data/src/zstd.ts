// Zstandard with its checksums. `fzstd` decompresses but passes over the checksum that ends a frame, so frames are told
// apart here (RFC 8878, section 3.1), each is decompressed by itself, and its content is held against XXH64.
import { shown, UserError } from '@stickbreaking/base';
import { Decompress, type ZstdError, ZstdErrorCode } from 'fzstd';
import { createXXHash64, type IHasher } from 'hash-wasm';
import { type OnRead, readBytes } from './byte_stream.js';

/** The decompressed bytes of a Zstandard file of any number of frames; a file cut short is an error, wherever cut. */
export async function* readZstd(path: string, onRead?: OnRead): AsyncGenerator<Uint8Array> {
  const frames = new Frames(path, await createXXHash64());
  for await (const chunk of readBytes(path, onRead)) yield* frames.push(chunk);
  frames.end();
}

type Part = 'magic' | 'descriptor' | 'header' | 'block header' | 'block' | 'checksum' | 'skip size' | 'skip';

class Frames {
  private part: Part = 'magic';
  /** Bytes that the part still lacks. */
  private missing = 4;
  /** Those of a short part that are there. */
  private gathered: number[] = [];
  private decompressor: Decompress | undefined;
  private blocks: Uint8Array[] = [];
  private hasChecksum = false;
  private isLast = false;
  /** in the file */
  private offset = 0;
  private frameStart = 0;

  constructor(
    private readonly path: string,
    private readonly hasher: IHasher,
  ) {}

  *push(chunk: Uint8Array): Generator<Uint8Array> {
    let at = 0;
    while (at < chunk.length) {
      const taken = chunk.subarray(at, at + this.missing);
      at += taken.length;
      this.missing -= taken.length;
      const isLong = this.part === 'block' || this.part === 'skip';
      if (!isLong) this.gathered.push(...taken);
      if (this.part !== 'magic' && this.part !== 'skip' && this.part !== 'skip size' && this.part !== 'checksum') {
        this.decompress(taken);
      }
      this.offset += taken.length;
      if (this.missing === 0) this.finishPart();
      yield* this.blocks;
      this.blocks = [];
    }
  }

  end(): void {
    if (this.part !== 'magic' || this.gathered.length > 0 || this.offset === 0) throw this.cutShort();
  }

  /** A part is whole: what comes next. */
  private finishPart(): void {
    const bytes = Buffer.from(this.gathered);
    this.gathered = [];
    if (this.part === 'magic') this.begin(bytes);
    else if (this.part === 'skip size') this.next('skip', bytes.readUInt32LE(0));
    else if (this.part === 'skip') this.next('magic', 4);
    else if (this.part === 'descriptor') this.next('header', this.headerLength(bytes[0]!));
    else if (this.part === 'header') this.next('block header', 3);
    else if (this.part === 'block header') this.beginBlock(bytes.readUIntLE(0, 3));
    else if (this.part === 'checksum') this.finishFrame(bytes.readUInt32LE(0));
    else if (!this.isLast) this.next('block header', 3);
    else if (this.hasChecksum) this.next('checksum', 4);
    else this.finishFrame(undefined);
  }

  private beginBlock(header: number): void {
    this.isLast = (header & 1) === 1;
    const isRepeated = ((header >> 1) & 3) === 1;
    this.next('block', isRepeated ? 1 : header >> 3);
  }

  private next(part: Part, length: number): void {
    this.part = part;
    this.missing = length;
    if (length === 0) this.finishPart();
  }

  private begin(magic: Buffer): void {
    const value = magic.readUInt32LE(0);
    this.frameStart = this.offset - 4;
    if (value >>> 4 === 0x184d2a5) {
      this.next('skip size', 4);
      return;
    }
    if (value !== 0xfd2fb528) {
      const what =
        this.frameStart === 0 ? 'is not Zstandard' : `is damaged at byte ${this.frameStart}: no frame begins`;
      throw new UserError(`${shown(this.path)} ${what}${this.frameStart === 0 ? '' : ' there'}; fetch it again.`);
    }
    this.hasher.init();
    this.decompressor = new Decompress((block) => {
      const copy = block.slice();
      this.hasher.update(copy);
      if (copy.length > 0) this.blocks.push(copy);
    });
    this.decompress(magic);
    this.next('descriptor', 1);
  }

  /** Bytes of the frame's header that follow its first, from that one. */
  private headerLength(descriptor: number): number {
    const isSingleSegment = (descriptor & 0x20) !== 0;
    this.hasChecksum = (descriptor & 4) !== 0;
    const dictionary = [0, 1, 2, 4][descriptor & 3]!;
    const size = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
    if (dictionary > 0) {
      throw new UserError(
        `${shown(this.path)}: the Zstandard frame at byte ${this.frameStart} needs a dictionary; compress it again without one.`,
      );
    }
    return (isSingleSegment ? 0 : 1) + size;
  }

  private decompress(bytes: Uint8Array, last = false): void {
    try {
      this.decompressor!.push(bytes, last);
    } catch (error) {
      const { code, message } = error as ZstdError;
      if (code === ZstdErrorCode.UnexpectedEOF) throw this.cutShort();
      const advice =
        code === ZstdErrorCode.WindowSizeTooLarge
          ? 'compress it again without --long or --ultra'
          : 'the file is damaged, fetch it again';
      throw new UserError(
        `${shown(this.path)}: ${message || 'invalid zstd data'} near byte ${this.offset}; ${advice}.`,
      );
    }
  }

  private finishFrame(checksum: number | undefined): void {
    // fzstd wants the four bytes of the checksum too before it takes a frame to be whole.
    if (checksum !== undefined) this.decompress(new Uint8Array(4));
    this.decompress(new Uint8Array(0), true);
    const found = Number.parseInt(this.hasher.digest('hex').slice(8), 16);
    if (checksum !== undefined && found !== checksum) {
      throw new UserError(
        `${shown(this.path)}: the content of the Zstandard frame at byte ${this.frameStart} does not fit its checksum; the file is damaged, fetch it again.`,
      );
    }
    this.decompressor = undefined;
    this.next('magic', 4);
  }

  private cutShort(): UserError {
    return new UserError(`${shown(this.path)}: the Zstandard data is cut short; fetch the file again.`);
  }
}
