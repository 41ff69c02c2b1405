/**
 * Sequences laid side by side into packs, longest first, without padding. What a pack holds depends on nothing but the
 * sequences, so that an evaluation that goes on after a kill computes the same packs, and the same digits.
 */
import { createHash } from 'node:crypto';
import { UserError } from '@stickbreaking/base';
import type { LlamaModel } from '@stickbreaking/model';
import type { TokenScorer } from '../scoring.js';
import type { ScoredTokens } from './tokens.js';

/** Sequences that run through the model together. */
export interface Pack {
  sequences: readonly Sequence[];
  tokens: number;
}

/** A sequence that is scored once, however many requests ask for it. */
export interface Sequence extends ScoredTokens {
  /** Hash of its tokens. */
  key: string;
}

export function sequenceOf(scored: ScoredTokens): Sequence {
  const bytes = Int32Array.from([scored.input.length, ...scored.input, ...scored.targets]);
  return { ...scored, key: createHash('sha256').update(bytes).digest('hex').slice(0, 32) };
}

/**
 * @param batchTokens the most tokens of a pack, unless a single sequence has more
 * @param mostSequences the most sequences of a pack
 */
export function packsOf(
  sequences: readonly Sequence[],
  batchTokens: number,
  mostSequences = Number.POSITIVE_INFINITY,
): Pack[] {
  const each = new Map(sequences.map((sequence) => [sequence.key, sequence]));
  // By key too: the order must not depend on the order of the tasks.
  const sorted = [...each.values()].sort((a, b) => b.input.length - a.input.length || (a.key < b.key ? -1 : 1));
  const packs: Pack[] = [];
  let open: { sequences: Sequence[]; tokens: number } = { sequences: [], tokens: 0 };
  for (const sequence of sorted) {
    const full = open.tokens + sequence.input.length > batchTokens || open.sequences.length >= mostSequences;
    if (open.tokens > 0 && full) {
      packs.push(open);
      open = { sequences: [], tokens: 0 };
    }
    open.sequences.push(sequence);
    open.tokens += sequence.input.length;
  }
  return open.tokens > 0 ? [...packs, open] : packs;
}

/** Matmuls of a rest of rows round differently, so a pack is filled up to a multiple of this many; */
const ROWS = 64;
/** and those of few rows take another kernel, so to this many at least. */
const FEWEST_ROWS = 128;

/**
 * The log-likelihood in nats of each sequence's targets, summed in double precision. It does not depend on what else is in
 * the pack: not on the place in it, and not on its size.
 */
export async function scorePack(score: TokenScorer, { sequences, tokens }: Pack): Promise<number[]> {
  const { inputs, cuSeqlens } = laidOut(sequences, tokens);
  const targets = new Int32Array(inputs.length).fill(-1);
  for (const [s, sequence] of sequences.entries()) {
    targets.set(sequence.targets, cuSeqlens[s + 1]! - sequence.targets.length);
  }
  const losses = await score({ tokens: inputs, targets, cuSeqlens });
  return sequences.map((sequence, s) => {
    let sum = 0;
    for (let i = cuSeqlens[s + 1]! - sequence.targets.length; i < cuSeqlens[s + 1]!; i++) sum += losses[i]!;
    return -sum;
  });
}

/** Inputs one after the other, and what fills the pack up: a document of its own, the last. */
function laidOut(sequences: readonly Sequence[], tokens: number): { inputs: Int32Array; cuSeqlens: Int32Array } {
  const rows = Math.max(FEWEST_ROWS, Math.ceil(tokens / ROWS) * ROWS);
  const inputs = new Int32Array(rows);
  const cuSeqlens = new Int32Array(sequences.length + (rows > tokens ? 2 : 1)).fill(rows);
  let end = 0;
  cuSeqlens[0] = 0;
  for (const [s, { input }] of sequences.entries()) {
    inputs.set(input, end);
    end += input.length;
    cuSeqlens[s + 1] = end;
  }
  return { inputs, cuSeqlens };
}

/** Rows whose logits are computed each by itself: sequences of `scoreNextTokens`, what fills the pack up among them. */
export const MOST_NEXT = 63;

/** The log-likelihood in nats of each single token after the same input, in the order of the pack; as `scorePack`. */
export async function scoreNextTokens(
  model: Pick<LlamaModel, 'nextLogits'>,
  pack: Pack,
  targetsOf: (sequence: Sequence) => readonly number[],
): Promise<number[][]> {
  const { inputs, cuSeqlens } = laidOut(pack.sequences, pack.tokens);
  const logits = model.nextLogits(inputs, { cuSeqlens });
  const [, vocabSize] = logits.shape;
  const values = (await logits.data()) as Float32Array;
  logits.dispose();
  return pack.sequences.map((sequence, s) => {
    const row = values.subarray(s * vocabSize, (s + 1) * vocabSize);
    const highest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const all = highest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
    if (!Number.isFinite(all)) {
      throw new UserError('The model gives no finite loss. Its weights may have diverged; take an earlier checkpoint.');
    }
    return targetsOf(sequence).map((target) => row[target]! - all);
  });
}
