/**
 * Sequences laid side by side into packs, longest first, without padding. What a pack holds depends on nothing but the
 * sequences, so that an evaluation that goes on after a kill computes the same packs, and the same digits.
 */
import { createHash } from 'node:crypto';
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

/** @param batchTokens the most tokens of a pack, unless a single sequence has more */
export function packsOf(sequences: readonly Sequence[], batchTokens: number): Pack[] {
  const each = new Map(sequences.map((sequence) => [sequence.key, sequence]));
  // By key too: the order must not depend on the order of the tasks.
  const sorted = [...each.values()].sort((a, b) => b.input.length - a.input.length || (a.key < b.key ? -1 : 1));
  const packs: Pack[] = [];
  let open: { sequences: Sequence[]; tokens: number } = { sequences: [], tokens: 0 };
  for (const sequence of sorted) {
    if (open.tokens > 0 && open.tokens + sequence.input.length > batchTokens) {
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
  const rows = Math.max(FEWEST_ROWS, Math.ceil(tokens / ROWS) * ROWS);
  const inputs = new Int32Array(rows);
  const targets = new Int32Array(rows).fill(-1);
  // What fills the pack up is a document of its own, the last.
  const cuSeqlens = new Int32Array(sequences.length + (rows > tokens ? 2 : 1)).fill(rows);
  let end = 0;
  cuSeqlens[0] = 0;
  for (const [s, sequence] of sequences.entries()) {
    inputs.set(sequence.input, end);
    end += sequence.input.length;
    targets.set(sequence.targets, end - sequence.targets.length);
    cuSeqlens[s + 1] = end;
  }
  const losses = await score({ tokens: inputs, targets, cuSeqlens });
  return sequences.map((sequence, s) => {
    let sum = 0;
    for (let i = cuSeqlens[s + 1]! - sequence.targets.length; i < cuSeqlens[s + 1]!; i++) sum += losses[i]!;
    return -sum;
  });
}
