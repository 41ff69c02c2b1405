/**
 * The stream protocol (figures 5 and 8 of https://arxiv.org/abs/2410.17980): all text as one stream of tokens, an end
 * token after each document, cut into windows of L. A window's inputs are L tokens and its targets the same moved by
 * one, so every token but the stream's first is a target once, and the first of a window is predicted from one token.
 * All lengths score the same tokens where they divide the largest: the stream is cut to a multiple of that one.
 */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { BATCH_TOKENS, countWords, figures, type LengthResult, type OnProgress, type TokenScorer } from './scoring.js';

export interface StreamOptions {
  lengths: readonly number[];
  tokenizer: Pick<Tokenizer, 'encodeBatch' | 'decode' | 'eosId'>;
  /** Look at this many tokens at most. */
  maxTokens?: number;
  onProgress?: OnProgress;
}

/** Text that goes through the tokenizer together: all cores have something to do, and few tokens come too many. */
const BATCH_CHARACTERS = 2 ** 20;

/** @throws UserError where the text has fewer tokens than the longest window */
export async function evaluateStream(
  score: TokenScorer,
  documents: Iterable<string>,
  options: StreamOptions,
): Promise<LengthResult[]> {
  const { lengths, tokenizer, maxTokens = Number.POSITIVE_INFINITY } = options;
  const longest = Math.max(...lengths);
  const stream = await tokenStream(documents, tokenizer, maxTokens + 1);
  const usable = Math.floor((stream.length - 1) / longest) * longest;
  if (usable < longest) {
    throw new UserError(
      `The text has ${stream.length} tokens, too few for one window of ${longest}; give more text or shorter lengths.`,
    );
  }
  // Most lengths score the same tokens: their text is put together once.
  const known = new Map<number, TextSizes>();
  const sizesOf = (tokens: number) => {
    const sizes = known.get(tokens) ?? textSizes(stream.subarray(1, tokens + 1), tokenizer);
    known.set(tokens, sizes);
    return sizes;
  };
  const results: LengthResult[] = [];
  for (const length of lengths) {
    results.push(await evaluateLength(score, stream, Math.floor(usable / length), length, sizesOf, options));
  }
  return results;
}

async function tokenStream(
  documents: Iterable<string>,
  { encodeBatch, eosId }: Pick<Tokenizer, 'encodeBatch' | 'eosId'>,
  most: number,
): Promise<Int32Array> {
  const stream: number[] = [];
  const take = async (texts: readonly string[]) => {
    for (const tokens of await encodeBatch(texts)) {
      for (const token of tokens) stream.push(token);
      stream.push(eosId);
    }
  };
  let batch: string[] = [];
  let characters = 0;
  for (const document of documents) {
    batch.push(document);
    characters += document.length;
    if (characters < BATCH_CHARACTERS) continue;
    await take(batch);
    [batch, characters] = [[], 0];
    if (stream.length >= most) break;
  }
  await take(batch);
  return Int32Array.from(stream.slice(0, most));
}

async function evaluateLength(
  score: TokenScorer,
  stream: Int32Array,
  windows: number,
  length: number,
  sizesOf: (tokens: number) => TextSizes,
  { onProgress }: StreamOptions,
): Promise<LengthResult> {
  const together = Math.max(1, Math.floor(BATCH_TOKENS / length));
  const byPosition = new Float64Array(length);
  const start = performance.now();
  let nll = 0;
  onProgress?.({ length, done: 0, total: windows * length });
  for (let first = 0; first < windows; first += together) {
    const count = Math.min(together, windows - first);
    const begin = first * length;
    const losses = await score({
      tokens: stream.subarray(begin, begin + count * length),
      targets: stream.subarray(begin + 1, begin + count * length + 1),
      cuSeqlens: Int32Array.from({ length: count + 1 }, (_, w) => w * length),
    });
    for (let i = 0; i < count * length; i++) {
      nll += losses[i]!;
      byPosition[i % length]! += losses[i]!;
    }
    onProgress?.({ length, done: (first + count) * length, total: windows * length });
  }
  const seconds = (performance.now() - start) / 1000;
  const tokens = windows * length;
  return {
    protocol: 'stream',
    length,
    ...figures({ nll, tokens, ...sizesOf(tokens) }),
    seconds,
    lossByPosition: positionBuckets(byPosition, windows),
  };
}

interface TextSizes {
  words: number;
  bytes: number;
}

/** Words and bytes of the text behind tokens, document by document: the last word of one is not the first of the next. */
function textSizes(targets: Int32Array, { decode, eosId }: Pick<Tokenizer, 'decode' | 'eosId'>): TextSizes {
  const sizes = { words: 0, bytes: 0 };
  for (let begin = 0; begin < targets.length; ) {
    const found = targets.indexOf(eosId, begin);
    const end = found < 0 ? targets.length : found;
    const text = decode(targets.subarray(begin, end));
    if (text !== '') sizes.words += countWords(text);
    sizes.bytes += Buffer.byteLength(text);
    begin = end + 1;
  }
  return sizes;
}

/** Buckets that double: position 0, 1, 2–3, 4–7, … */
function positionBuckets(sums: Float64Array, windows: number): NonNullable<LengthResult['lossByPosition']> {
  const buckets = [];
  for (let begin = 0, end = 1; begin < sums.length; begin = end, end = Math.min(2 * end, sums.length)) {
    const tokens = (end - begin) * windows;
    const nll = sums.subarray(begin, end).reduce((a, b) => a + b, 0) / tokens;
    buckets.push({ begin, end, nll, tokens });
  }
  return buckets;
}
