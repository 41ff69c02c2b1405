/** Held-out text as one run of tokens, for what is measured while a model is trained. */
import { readDocuments } from '@stickbreaking/data';
import type { TokenBatch } from '@stickbreaking/model';
import type { PreparedText } from './text.js';

/** The first `most` tokens of a source, an end token after each document; no more of it is read. */
export async function heldOutTokens(
  source: PreparedText['heldOut'],
  tokenizer: PreparedText['tokenizer'],
  most: number,
): Promise<Int32Array> {
  const tokens: number[] = [];
  for await (const { text } of readDocuments(source, { endTexts: tokenizer.endTexts })) {
    for (const token of tokenizer.encode(text)) tokens.push(token);
    tokens.push(tokenizer.eosId);
    if (tokens.length >= most) break;
  }
  return Int32Array.from(tokens.slice(0, most));
}

/** Tokens in whole windows, as batches of about `batchTokens`: the target of each is the next. */
export function windowsOf(tokens: Int32Array, length: number, batchTokens: number): TokenBatch[] {
  const windows = Math.floor((tokens.length - 1) / length);
  const together = Math.max(1, Math.floor(batchTokens / length));
  const batches: TokenBatch[] = [];
  for (let first = 0; first < windows; first += together) {
    const [begin, count] = [first * length, Math.min(together, windows - first)];
    batches.push({
      tokens: tokens.subarray(begin, begin + count * length),
      targets: tokens.subarray(begin + 1, begin + count * length + 1),
      cuSeqlens: Int32Array.from({ length: count + 1 }, (_, w) => w * length),
    });
  }
  return batches;
}
