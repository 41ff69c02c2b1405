/**
 * The document protocol: each document by itself, as lm-evaluation-harness rolls over it (`loglikelihood_rolling`). The
 * first window predicts from an end token; each following one adds up to L new tokens, and the last keeps its L tokens
 * of context by reaching back over tokens that were already scored. Words and bytes are those of the original text.
 */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { BATCH_TOKENS, countWords, figures, type LengthResult, type OnProgress, type TokenScorer } from './scoring.js';

export interface EvaluationDocument {
  /** What the model reads. */
  text: string;
  /** What words and bytes are counted in; default `text`. */
  original?: string;
}

export interface DocumentsOptions {
  lengths: readonly number[];
  tokenizer: Pick<Tokenizer, 'encodeBatch' | 'eosId'>;
  onProgress?: OnProgress;
}

export interface RollingWindow {
  tokens: number[];
  /** −1 where the token was scored by an earlier window. */
  targets: number[];
}

export async function evaluateDocuments(
  score: TokenScorer,
  documents: readonly EvaluationDocument[],
  { lengths, tokenizer, onProgress }: DocumentsOptions,
): Promise<LengthResult[]> {
  const encoded = await tokenizer.encodeBatch(documents.map(({ text }) => text));
  const tokens = encoded.reduce((total, one) => total + one.length, 0);
  if (tokens === 0) throw new UserError('The text has no tokens to score.');
  const originals = documents.map(({ text, original }) => original ?? text);
  const words = originals.reduce((total, text) => total + countWords(text), 0);
  const bytes = originals.reduce((total, text) => total + Buffer.byteLength(text), 0);
  const results: LengthResult[] = [];
  for (const length of lengths) {
    const start = performance.now();
    onProgress?.({ length, done: 0, total: tokens });
    const windows = encoded.flatMap((one) => rollingWindows(one, length, tokenizer.eosId));
    const nll = await scoreWindows(score, windows, (done) => onProgress?.({ length, done, total: tokens }));
    const seconds = (performance.now() - start) / 1000;
    results.push(figures({ nll, tokens, words, bytes, seconds }, { protocol: 'documents', length }));
  }
  return results;
}

/** The windows of one document, `length` tokens of input each at most; every token is a target exactly once. */
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

async function scoreWindows(
  score: TokenScorer,
  windows: readonly RollingWindow[],
  onDone: (tokens: number) => void,
): Promise<number> {
  let nll = 0;
  let done = 0;
  for (let next = 0; next < windows.length; ) {
    const batch: RollingWindow[] = [];
    let size = 0;
    while (next < windows.length && (size === 0 || size + windows[next]!.tokens.length <= BATCH_TOKENS)) {
      size += windows[next]!.tokens.length;
      batch.push(windows[next++]!);
    }
    const cuSeqlens = [0];
    for (const { tokens } of batch) cuSeqlens.push(cuSeqlens.at(-1)! + tokens.length);
    const targets = batch.flatMap((window) => window.targets);
    const losses = await score({ tokens: batch.flatMap((window) => window.tokens), targets, cuSeqlens });
    for (let i = 0; i < targets.length; i++) if (targets[i] !== -1) nll += losses[i]!;
    done += targets.filter((target) => target !== -1).length;
    onDone(done);
  }
  return nll;
}
