/** What an evaluation asks of a model, and what it counts; shared by both protocols. */
import { UserError } from '@stickbreaking/base';
import type { LlamaModel, TokenBatch } from '@stickbreaking/model';

/** The loss in nats of every position of a batch, 0 where the target is −1. */
export type TokenScorer = (batch: TokenBatch) => Promise<ArrayLike<number>>;

/**
 * What the losses of a text come to. Per token counts every token that is scored, per word and per byte those alone that
 * words and bytes are made of: a document's end token is scored by the stream protocol, and has neither.
 */
export interface TextFigures {
  /** Tokens scored, end tokens among them. */
  tokens: number;
  /** Of these, tokens that end a document (stream protocol alone). */
  endTokens: number;
  /** Mean negative log-likelihood of the tokens scored, in nats. */
  nll: number;
  /** exp(nll) */
  perplexity: number;
  /** Total negative log-likelihood of the text's own tokens, end tokens left out, in nats. */
  textNll: number;
  /** exp(textNll / words), words as whitespace splits the text. */
  wordPerplexity: number;
  /** textNll in bits over the UTF-8 bytes of the text. */
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
  /** The loss by position in the window. */
  lossByPosition: PositionLoss[];
}

/**
 * The mean loss of positions from `begin` up to `end` of the windows, in nats: a token at position p is predicted from p + 1
 * tokens, with the document protocol the one before the document among them.
 */
export interface PositionLoss {
  begin: number;
  end: number;
  nll: number;
  tokens: number;
}

/** One window length of the stream protocol. */
export interface StreamResult extends LengthResult {
  protocol: 'stream';
}

/** One window length of the document protocol. */
export interface DocumentsResult extends LengthResult {
  protocol: 'documents';
  /** How many documents were scored. */
  documents: number;
  /** These are the first of more: the next would have been beyond the most tokens that were asked for. */
  isPart: boolean;
}

/** How far an evaluation has come at one context length, in tokens. */
export interface EvaluationProgress {
  length: number;
  done: number;
  total: number;
}

export type OnProgress = (progress: EvaluationProgress) => void;

/** How many tokens run through the model together if windows are short: enough to keep it busy. */
export const BATCH_TOKENS = 8192;

/** Scores tokens with a model. */
export function scorerOf(model: LlamaModel): TokenScorer {
  return async (batch) => {
    const losses = model.tokenLosses(batch);
    const values = await losses.data();
    losses.dispose();
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad < 0) return values;
    throw new UserError(
      `The model gives no finite loss: token ${bad} of a batch scores ${values[bad]}. Its weights may have diverged; take an earlier checkpoint.`,
    );
  };
}

export interface Totals {
  /** Negative log-likelihood of all tokens, in nats. */
  nll: number;
  tokens: number;
  /** Of these, the end tokens and their part. */
  endNll?: number;
  endTokens?: number;
  words: number;
  bytes: number;
}

export function figures({ nll, tokens, endNll = 0, endTokens = 0, words, bytes }: Totals): TextFigures {
  const textNll = nll - endNll;
  return {
    tokens,
    endTokens,
    nll: nll / tokens,
    perplexity: Math.exp(nll / tokens),
    textNll,
    wordPerplexity: Math.exp(textNll / words),
    bitsPerByte: textNll / Math.LN2 / bytes,
    words,
    bytes,
  };
}

export function countWords(text: string): number {
  return text.split(/\s+/).length;
}
