/** Packed documents with what is to be predicted in them. */
import type { Ints } from '@stickbreaking/core';
import type { SequenceGroup } from './attention/shared_sequence.js';

/** Packed documents with the token that follows each one. */
export interface TokenBatch {
  /** [N] */
  tokens: Ints;
  /** [N] the next token, or −1 where none is scored. */
  targets: Ints;
  /** [S+1] document boundaries. */
  cuSeqlens: Ints;
}

/** Packed documents with targets at some of their rows. */
export interface TargetBatch {
  /** [N] */
  tokens: Ints;
  /** [S+1] document boundaries. */
  cuSeqlens: Ints;
  /** [R] the row after which each target stands; a row may be named more than once. */
  rows: Ints;
  /** [R] tokens, or −1 where none is scored. */
  targets: Ints;
}

/** A batch as a process of several that share its sequence has it; its length is a multiple of their number. */
export function ownTokens({ tokens, targets, cuSeqlens }: TokenBatch, { rank, size }: SequenceGroup): TokenBatch {
  const [from, to] = [rank, rank + 1].map((one) => (tokens.length / size) * one);
  return { tokens: tokens.slice(from, to), targets: targets.slice(from, to), cuSeqlens };
}

/** How many tokens of a batch have a target. */
export function scoredTokens({ targets }: Pick<TokenBatch, 'targets'>): number {
  let scored = 0;
  for (const target of targets) if (target >= 0) scored++;
  return scored;
}
