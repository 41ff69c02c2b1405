/** Documents as tokens, each by itself, with the words and bytes of their originals. The text itself is not kept. */
import { UserError } from '@stickbreaking/base';
import { PieceEncoder, type Tokenizer } from '@stickbreaking/data';
import { GrowingTokens, textBatches } from './text_batches.js';
import { RunningSizes } from './text_sizes.js';

/** A document to score, or a piece of a long one. */
export interface EvaluationDocument {
  /** What the model reads. */
  text: string;
  /** What words and bytes are counted in; default `text`. */
  original?: string;
  /** False where the next piece goes on with the same document; default true. */
  last?: boolean;
}

export class DocumentTokens {
  private constructor(
    /** Of each document. */
    readonly texts: readonly Int32Array[],
    readonly words: number,
    readonly bytes: number,
    /** More documents follow, of which the first does not fit. */
    readonly isPart: boolean,
  ) {}

  /**
   * Reads whole documents, from the first, as long as they have no more than `maxTokens` together.
   *
   * @throws UserError if there are no tokens, or the first document alone has more
   */
  static async read(
    documents: Iterable<EvaluationDocument> | AsyncIterable<EvaluationDocument>,
    tokenizer: Pick<Tokenizer, 'encodeBatch'>,
    maxTokens = Number.POSITIVE_INFINITY,
  ): Promise<DocumentTokens> {
    const tokens = new GrowingTokens(maxTokens + 1);
    const encoder = new PieceEncoder(tokenizer);
    const ends: number[] = [];
    const sizes = { words: 0, bytes: 0 };
    let open = new RunningSizes();
    const taken = (isPart: boolean) => {
      if ((ends.at(-1) ?? 0) === 0)
        throw isPart ? tooLong(maxTokens) : new UserError('The text has no tokens to score.');
      const all = tokens.all();
      const texts = ends.map((end, i) => all.subarray(ends[i - 1] ?? 0, end));
      return new DocumentTokens(texts, sizes.words, sizes.bytes, isPart);
    };
    for await (const batch of textBatches(documents)) {
      const encoded = await encoder.encode(batch.map(({ text, last = true }) => ({ text, last })));
      for (const [i, { text, original = text, last = true }] of batch.entries()) {
        tokens.push(encoded[i]!);
        if (tokens.length > maxTokens) return taken(true);
        open.add(original);
        if (!last) continue;
        ends.push(tokens.length);
        sizes.words += open.words;
        sizes.bytes += open.bytes;
        open = new RunningSizes();
      }
    }
    return taken(false);
  }

  /** Tokens of all documents; each is scored once. */
  get tokens(): number {
    return this.texts.reduce((total, one) => total + one.length, 0);
  }
}

const tooLong = (maxTokens: number) =>
  new UserError(
    `The first document has more than ${maxTokens} tokens, and documents are scored whole; take a larger --max-tokens, or cut the text into documents (--split).`,
  );
