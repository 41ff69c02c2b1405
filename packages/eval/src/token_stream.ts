/** Documents as one stream of tokens, and the text behind any part of it. */
import { PieceEncoder, type Tokenizer } from '@stickbreaking/data';
import { GrowingTokens, textBatches } from './text_batches.js';
import { RunningSizes, type TextSizes } from './text_sizes.js';

/** A document, or a piece of a long one. */
export type StreamText = string | { text: string; last: boolean };

export type StreamTokenizer = Pick<Tokenizer, 'encodeBatch' | 'eosId' | 'beginId'>;

export class TokenStream {
  private readonly known = new Map<number, TextSizes>();

  private constructor(
    readonly inputs: Int32Array,
    /** Where the stream has a beginning token that is given, not predicted. */
    private readonly given: Set<number>,
  ) {}

  /** @param most tokens; once they are there, no more text is read */
  static async read(
    texts: Iterable<StreamText> | AsyncIterable<StreamText>,
    { encodeBatch, eosId, beginId }: StreamTokenizer,
    most: number,
  ): Promise<TokenStream> {
    const tokens = new GrowingTokens(most);
    const given = new Set<number>([0]);
    const encoder = new PieceEncoder({ encodeBatch });
    let isBegun = false;
    const take = async (batch: readonly { text: string; last: boolean }[]) => {
      for (const [i, ids] of (await encoder.encode(batch)).entries()) {
        // An end token that is the beginning of the next document stands there once.
        if (!isBegun && (beginId !== eosId || tokens.length === 0)) {
          given.add(tokens.length);
          tokens.push([beginId]);
        }
        tokens.push(ids);
        isBegun = !batch[i]!.last;
        if (!isBegun) tokens.push([eosId]);
      }
    };
    for await (const batch of textBatches(piecesOf(texts))) {
      await take(batch);
      if (tokens.length >= most) break;
    }
    return new TokenStream(tokens.all(), given);
  }

  /** The token after each input from `begin` up to `end`, −1 where it is given. */
  targets(begin: number, end: number): Int32Array {
    const targets = this.inputs.slice(begin + 1, end + 1);
    for (let i = 0; i < targets.length; i++) if (this.given.has(begin + 1 + i)) targets[i] = -1;
    return targets;
  }

  /**
   * Words and bytes of the text behind the first targets, document by document: the last word of one is not the first of
   * the next. Most lengths score the same tokens, whose text is put together once.
   */
  textSizes(targets: number, { decode, eosId }: Pick<Tokenizer, 'decode' | 'eosId'>): TextSizes {
    const known = this.known.get(targets);
    if (known) return known;
    const sizes = { words: 0, bytes: 0 };
    const stream = this.inputs.subarray(0, targets + 1);
    for (let begin = 1; begin < stream.length; ) {
      const found = stream.indexOf(eosId, begin);
      const end = found < 0 ? stream.length : found;
      const own = sizesOf(stream.subarray(this.given.has(begin) ? begin + 1 : begin, end), decode);
      sizes.words += own.words;
      sizes.bytes += own.bytes;
      begin = end + 1;
    }
    this.known.set(targets, sizes);
    return sizes;
  }
}

async function* piecesOf(texts: Iterable<StreamText> | AsyncIterable<StreamText>) {
  for await (const one of texts) yield typeof one === 'string' ? { text: one, last: true } : one;
}

/** Tokens that are decoded together; a book has more. */
const DECODED_TOKENS = 2 ** 16;
/** Tokens before them that are decoded once more, since a token's text depends on the one before it. */
const CONTEXT_TOKENS = 16;

/** Words and bytes of one document; one of no text has no words. */
function sizesOf(tokens: Int32Array, decode: Tokenizer['decode']): TextSizes {
  const sizes = new RunningSizes();
  for (let begin = 0; begin < tokens.length; ) {
    let end = Math.min(tokens.length, begin + DECODED_TOKENS);
    // Not inside of a character.
    while (end < tokens.length && decode(tokens.subarray(end - CONTEXT_TOKENS, end)).endsWith('\ufffd')) end++;
    const context = tokens.subarray(Math.max(0, begin - CONTEXT_TOKENS), begin);
    const before = context.length === 0 ? 0 : decode(context).length;
    sizes.add(decode(tokens.subarray(begin - context.length, end)).slice(before));
    begin = end;
  }
  return { words: sizes.bytes === 0 ? 0 : sizes.words, bytes: sizes.bytes };
}
