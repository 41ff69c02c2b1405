// Text must be UTF-8, exactly: a replacement character that slips in silently would be trained on. `invalidText:
// replace` allows it, and tells so.
import { shown, UserError } from '@stickbreaking/base';
import type { OnNotice } from './notices.js';
import type { SourceFile } from './sources.js';

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

const ADVICE = 'convert the text to UTF-8, or set invalidText to replace';

/** What becomes of text in a file that is none: an error with its place, or U+FFFD and a notice at the end. */
export class TextCheck {
  private replaced = 0;
  private first: string | undefined;

  constructor(private readonly file: Pick<SourceFile, 'path' | 'invalidText'>) {}

  /**
   * @param where names the place in the error, e.g. "books.jsonl, line 12"
   * @param offset where `bytes` begins in its file, for the byte offset in the error
   */
  decode(bytes: Uint8Array, where: string, offset = 0): string {
    try {
      return strict.decode(bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') {
        throw new UserError(`${where}: ${bytes.length} bytes are too many for one text; split them into documents.`);
      }
      this.take(where, () => `invalid UTF-8 near byte ${offset + firstInvalidByte(bytes)}; ${ADVICE}`);
      return lenient.decode(bytes);
    }
  }

  /** A text from JSON, whose escapes can write half of a surrogate pair: no UTF-8 can hold one. */
  wellFormed(text: string, where: string): string {
    if (text.isWellFormed()) return text;
    this.take(where, () => `${halfPairIn(text)}; mend the text, or set invalidText to replace`);
    return text.toWellFormed();
  }

  /** Decodes a stream of any cut. */
  async *decodeStream(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
    let checking: InstanceType<typeof TextDecoder> | undefined = new TextDecoder('utf-8', {
      fatal: true,
      ignoreBOM: true,
    });
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    let offset = 0;
    const check = (bytes: Uint8Array, stream: boolean) => {
      try {
        checking?.decode(bytes, { stream });
      } catch {
        // The first bytes may end a character of the piece before.
        const skip = continuationBytes(bytes);
        const at = offset + (stream ? skip + firstInvalidByte(bytes.subarray(skip)) : 0);
        this.take(shown(this.file.path), () => `invalid UTF-8 near byte ${at}; ${ADVICE}`);
        checking = undefined;
      }
    };
    for await (const bytes of stream) {
      check(bytes, true);
      offset += bytes.length;
      yield decoder.decode(bytes, { stream: true });
    }
    check(new Uint8Array(0), false);
    yield decoder.decode();
  }

  /** Tells what was replaced. */
  tell(onNotice: OnNotice): void {
    if (this.replaced === 0) return;
    const texts = this.replaced === 1 ? 'invalid text was' : `invalid text in ${this.replaced} places was`;
    onNotice(`${shown(this.file.path)}: ${texts} replaced by U+FFFD (first: ${this.first}).`);
  }

  private take(where: string, describe: () => string): void {
    const fault = describe();
    if (this.file.invalidText === 'refuse') throw new UserError(`${where}: ${fault}.`);
    this.replaced++;
    this.first ??= `${where}: ${fault.slice(0, fault.indexOf(';'))}`;
  }
}

function continuationBytes(bytes: Uint8Array): number {
  let count = 0;
  while (count < 3 && ((bytes[count] ?? 0) & 0xc0) === 0x80) count++;
  return count;
}

/** The offset of the character at which `bytes` stop being UTF-8 (or their length). */
export function firstInvalidByte(bytes: Uint8Array): number {
  const valid = (length: number, options?: { stream: boolean }) => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), options);
      return true;
    } catch {
      return false;
    }
  };
  let low = 0; // valid up to here, but for a character that may be unfinished
  let high = bytes.length + 1; // the shortest prefix known to be invalid
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (valid(middle, { stream: true })) low = middle;
    else high = middle;
  }
  while (low > 0 && !valid(low)) low--;
  return low;
}

/** Names the first half of a surrogate pair that stands alone in a text, which has one. */
export function halfPairIn(text: string): string {
  const whole = text.toWellFormed();
  let at = 0;
  while (whole[at] === text[at]) at++;
  return `half of a surrogate pair (\\u${text.charCodeAt(at).toString(16)}) at character ${at}`;
}
