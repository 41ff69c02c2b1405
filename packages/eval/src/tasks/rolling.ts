/**
 * Answers `loglikelihood_rolling` as lm-evaluation-harness rolls over a text. The first window predicts from the token
 * that documents begin from (the tokenizer's beginning token, or where it has none its end token); each following one
 * adds up to L new tokens, and the last keeps its L tokens of context by reaching back over tokens that were already
 * scored.
 */
import { BATCH_TOKENS, type TokenScorer } from '../scoring.js';
import type { AnswerOf } from './task.js';

export interface RollingWindow {
  tokens: number[];
  /** −1 where the token was scored by an earlier window. */
  targets: number[];
}

/** Requests whose texts have been tokenized; they can be answered at any number of context lengths. */
export class RollingRequests {
  /**
   * @param texts ids of each text
   * @param prefix the token that documents begin from
   */
  constructor(
    private readonly texts: readonly ArrayLike<number>[],
    private readonly prefix: number,
  ) {}

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
    const losses = new Float64Array(this.tokens);
    let done = 0;
    for (const batch of batchesOf(this.windows(length))) {
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

  private *windows(length: number): Generator<RollingWindow> {
    for (const one of this.texts) yield* windowsOf(one, length, this.prefix);
  }
}

/** The windows of one text, `length` tokens of input each at most; every token is a target exactly once. */
export function rollingWindows(tokens: ArrayLike<number>, length: number, prefix: number): RollingWindow[] {
  return [...windowsOf(tokens, length, prefix)];
}

function* windowsOf(tokens: ArrayLike<number>, length: number, prefix: number): Generator<RollingWindow> {
  for (let scored = 0; scored < tokens.length; ) {
    const end = Math.min(tokens.length, scored + length);
    // The input ends one before the target; it reaches back as far as it may, the first window to the prefix.
    const begin = Math.max(0, end - length);
    const places = Array.from({ length: end - begin }, (_, i) => begin + i);
    yield {
      tokens: places.map((at) => (at === 0 ? prefix : tokens[at - 1]!)),
      targets: places.map((at) => (at < scored ? -1 : tokens[at]!)),
    };
    scored = end;
  }
}

/** Windows that run through the model together: as many as fit BATCH_TOKENS, but at least one. */
function* batchesOf(windows: Iterable<RollingWindow>): Generator<RollingWindow[]> {
  let batch: RollingWindow[] = [];
  let size = 0;
  for (const window of windows) {
    if (batch.length > 0 && size + window.tokens.length > BATCH_TOKENS) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(window);
    size += window.tokens.length;
  }
  if (batch.length > 0) yield batch;
}
