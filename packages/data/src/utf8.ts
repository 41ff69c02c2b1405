// Text must be UTF-8, exactly: a replacement character that slips in silently would be trained on.
import { UserError } from '@stickbreaking/base';

const strict = new TextDecoder('utf-8', { fatal: true });

/**
 * Decodes UTF-8 and refuses anything else.
 * @param where names the place in the error, e.g. "books.jsonl, line 12"
 * @param offset where `bytes` begins in its file, for the byte offset in the error
 */
export function decodeUtf8(bytes: Uint8Array, where: string, offset = 0): string {
  try {
    return strict.decode(bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') {
      throw new UserError(`${where}: ${bytes.length} bytes are too many for one text; split them into documents.`);
    }
    throw invalidUtf8(where, offset + firstInvalidByte(bytes));
  }
}

export function invalidUtf8(where: string, offset: number): UserError {
  return new UserError(`${where}: invalid UTF-8 near byte ${offset}; convert the text to UTF-8.`);
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
