/** What an evaluation asks of a model, and what it counts. Both protocols are written against these. */
import type { LlamaModel, TokenBatch } from '@stickbreaking/model';

/** The loss in nats of every position of a batch, 0 where the target is −1. */
export type TokenScorer = (batch: TokenBatch) => Promise<ArrayLike<number>>;

/** What the losses of a text come to. */
export interface TextFigures {
  /** Tokens scored. */
  tokens: number;
  /** Negative log-likelihood per token, in nats. */
  nll: number;
  /** exp(nll) */
  perplexity: number;
  /** exp(total negative log-likelihood / words), words as whitespace splits the original text. */
  wordPerplexity: number;
  /** Total negative log-likelihood in bits over the UTF-8 bytes of the original text. */
  bitsPerByte: number;
  words: number;
  bytes: number;
}

/** One context length, evaluated. */
export interface LengthResult extends TextFigures {
  protocol: 'stream' | 'documents';
  /** Tokens of context, at most. */
  length: number;
  seconds: number;
  /** With the stream protocol: the mean loss of positions from `begin` up to `end` of the window. */
  lossByPosition?: { begin: number; end: number; nll: number; tokens: number }[];
}

export interface EvaluationProgress {
  length: number;
  done: number;
  total: number;
}

export type OnProgress = (progress: EvaluationProgress) => void;

/** Tokens that run through the model together where windows are short: enough to keep it busy. */
export const BATCH_TOKENS = 8192;

export function scorerOf(model: LlamaModel): TokenScorer {
  return async (batch) => {
    const losses = model.tokenLosses(batch);
    const values = await losses.data();
    losses.dispose();
    return values;
  };
}

/** @param totals with the negative log-likelihood of all tokens, in nats */
export function figures(totals: { nll: number; tokens: number; words: number; bytes: number }): TextFigures {
  const { nll, tokens, words, bytes } = totals;
  return {
    tokens,
    nll: nll / tokens,
    perplexity: Math.exp(nll / tokens),
    wordPerplexity: Math.exp(nll / words),
    bitsPerByte: nll / Math.LN2 / bytes,
    words,
    bytes,
  };
}

export function countWords(text: string): number {
  return text.split(/\s+/).length;
}
