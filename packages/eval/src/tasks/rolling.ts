/**
 * Answers `loglikelihood_rolling` as lm-evaluation-harness rolls over a text. The first window predicts from the token
 * that documents begin from (the tokenizer's beginning token, or where it has none its end token); each following one
 * adds up to L new tokens, and the last keeps its L tokens of context by reaching back over tokens that were already
 * scored.
 */
import type { Tokenizer } from '@stickbreaking/data';
import { BATCH_TOKENS, type TokenScorer } from '../scoring.js';
import type { AnswerOf, RequestOf } from './task.js';

export interface RollingWindow {
  tokens: number[];
  /** −1 where the token was scored by an earlier window. */
  targets: number[];
}

/** Requests whose texts have been tokenized; they can be answered at any number of context lengths. */
export class RollingRequests {
  private constructor(
    private readonly texts: readonly (readonly number[])[],
    private readonly prefix: number,
  ) {}

  /** Tokenizes the texts of all requests. */
  static async encode(
    requests: readonly RequestOf<'loglikelihood_rolling'>[],
    tokenizer: Pick<Tokenizer, 'encodeBatch' | 'beginId'>,
  ): Promise<RollingRequests> {
    return new RollingRequests(await tokenizer.encodeBatch(requests.map(({ text }) => text)), tokenizer.beginId);
  }

  /** Tokens of all texts together; each is scored once. */
  get tokens(): number {
    return this.texts.reduce((total, one) => total + one.length, 0);
  }

  /**
   * Scores all texts in windows of one length.
   *
   * @param length the most input tokens of a window
   * @param onDone called with the number of tokens scored so far
   * @param onLoss called with each token's loss and its position in its window
   */
  async answer(
    score: TokenScorer,
    length: number,
    onDone: (tokens: number) => void,
    onLoss?: (position: number, loss: number) => void,
  ): Promise<AnswerOf<'loglikelihood_rolling'>[]> {
    const windows = this.texts.flatMap((one) => rollingWindows(one, length, this.prefix));
    const losses = new Float64Array(this.tokens);
    let done = 0;
    for (const batch of batchesOf(windows)) {
      const targets = batch.flatMap((window) => window.targets);
      const cuSeqlens = [0];
      for (const { tokens } of batch) cuSeqlens.push(cuSeqlens.at(-1)! + tokens.length);
      const found = await score({ tokens: batch.flatMap((window) => window.tokens), targets, cuSeqlens });
      for (const [w, window] of batch.entries()) {
        for (const [position, target] of window.targets.entries()) {
          if (target === -1) continue;
          const loss = found[cuSeqlens[w]! + position]!;
          losses[done++] = loss;
          onLoss?.(position, loss);
        }
      }
      onDone(done);
    }
    let end = 0;
    return this.texts.map((one) => {
      end += one.length;
      return { losses: losses.subarray(end - one.length, end) };
    });
  }
}

/** The windows of one text, `length` tokens of input each at most; every token is a target exactly once. */
export function rollingWindows(tokens: readonly number[], length: number, prefix: number): RollingWindow[] {
  const windows: RollingWindow[] = [];
  const prefixed = [prefix, ...tokens];
  for (let scored = 0; scored < tokens.length; ) {
    const end = Math.min(tokens.length, scored + length);
    // The input ends one before the target; it reaches back as far as it may, the first window to the prefix.
    const begin = Math.max(0, end - length);
    const targets = tokens.slice(begin, end).map((token, i) => (begin + i < scored ? -1 : token));
    windows.push({ tokens: prefixed.slice(begin, end), targets });
    scored = end;
  }
  return windows;
}

/** Windows that run through the model together: as many as fit BATCH_TOKENS, but at least one. */
function* batchesOf(windows: readonly RollingWindow[]): Generator<RollingWindow[]> {
  for (let next = 0; next < windows.length; ) {
    const batch: RollingWindow[] = [];
    let size = 0;
    while (next < windows.length && (size === 0 || size + windows[next]!.tokens.length <= BATCH_TOKENS)) {
      size += windows[next]!.tokens.length;
      batch.push(windows[next++]!);
    }
    yield batch;
  }
}
