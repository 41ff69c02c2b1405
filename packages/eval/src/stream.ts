/**
 * The stream protocol (figures 5 and 8 of https://arxiv.org/abs/2410.17980): all text as one stream of tokens, each
 * document between the token that documents begin from and the end token (where the tokenizer has no beginning token, the
 * end token of one document is what the next begins from), cut into windows of L. A window's inputs are L tokens and its
 * targets the same moved by one. Every token of a document and its end token are targets once; beginning tokens are given
 * and never targets. The first target of a window is predicted from one token. All lengths score the same tokens where
 * they divide the largest: the stream is cut to a multiple of that one.
 */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { PositionSums } from './position_sums.js';
import { BATCH_TOKENS, figures, type OnProgress, type StreamResult, type TokenScorer } from './scoring.js';
import { type StreamText, type StreamTokenizer, TokenStream } from './token_stream.js';

export type { StreamText };

/** Options of `evaluateStream`. */
export interface StreamOptions {
  lengths: readonly number[];
  tokenizer: StreamTokenizer & Pick<Tokenizer, 'decode'>;
  /** Look at this many tokens at most. */
  maxTokens?: number;
  onProgress?: OnProgress;
}

/**
 * Perplexity of a stream of text at several context lengths (the stream protocol).
 *
 * @throws UserError if the text has fewer tokens than the longest window
 */
export async function evaluateStream(
  score: TokenScorer,
  documents: Iterable<StreamText> | AsyncIterable<StreamText>,
  options: StreamOptions,
): Promise<StreamResult[]> {
  const { lengths, tokenizer, maxTokens = Number.POSITIVE_INFINITY } = options;
  const longest = Math.max(...lengths);
  const stream = await TokenStream.read(documents, tokenizer, maxTokens + 1);
  const targets = Math.max(0, stream.inputs.length - 1);
  const usable = Math.floor(targets / longest) * longest;
  if (usable < longest) {
    const read = targets < maxTokens ? `The text has ${targets} tokens` : `Of the text maxTokens takes ${targets}`;
    throw new UserError(
      `${read}, too few for one window of ${longest}; give ${targets < maxTokens ? 'more text' : 'a larger maxTokens'} or shorter lengths.`,
    );
  }
  const results: StreamResult[] = [];
  for (const length of lengths) {
    results.push(await evaluateLength(score, stream, Math.floor(usable / length), length, options));
  }
  return results;
}

async function evaluateLength(
  score: TokenScorer,
  stream: TokenStream,
  windows: number,
  length: number,
  { tokenizer, onProgress }: StreamOptions,
): Promise<StreamResult> {
  const together = Math.max(1, Math.floor(BATCH_TOKENS / length));
  const positions = new PositionSums(length);
  const start = performance.now();
  const totals = { nll: 0, tokens: 0, endNll: 0, endTokens: 0 };
  onProgress?.({ length, done: 0, total: windows * length });
  for (let first = 0; first < windows; first += together) {
    const count = Math.min(together, windows - first);
    const begin = first * length;
    const targets = stream.targets(begin, begin + count * length);
    const losses = await score({
      tokens: stream.inputs.subarray(begin, begin + count * length),
      targets,
      cuSeqlens: Int32Array.from({ length: count + 1 }, (_, w) => w * length),
    });
    for (const [i, target] of targets.entries()) {
      if (target === -1) continue;
      const loss = losses[i]!;
      totals.nll += loss;
      totals.tokens++;
      if (target === tokenizer.eosId) {
        totals.endNll += loss;
        totals.endTokens++;
      }
      positions.add(i % length, loss);
    }
    onProgress?.({ length, done: (first + count) * length, total: windows * length });
  }
  const seconds = (performance.now() - start) / 1000;
  const sizes = stream.textSizes(windows * length, tokenizer);
  return {
    protocol: 'stream',
    length,
    ...figures({ ...totals, ...sizes }),
    seconds,
    lossByPosition: positions.buckets(),
  };
}
