/**
 * Sequences of tokens that are scored, and where they are cut so that what several of them begin with runs through the
 * model once. Where a sequence is cut hangs on nothing but its own document and task: it is cut there also when it is
 * scored alone, and so gets the same digits.
 */
import { createHash } from 'node:crypto';
import { PAGE_TOKENS } from '@stickbreaking/model';
import type { ScoredTokens } from './tokens.js';

/** A sequence that is scored once, however many requests ask for it. */
export interface Sequence extends ScoredTokens {
  /** Hash of its tokens and of where they are cut. */
  key: string;
  /** How many tokens run first and stay in a cache for all contexts of the task. */
  root: number;
  /** How many are cached for all continuations of the context, those of the root among them. */
  cached: number;
}

/** What a sequence may share with others. */
export interface SharedBeginnings {
  /** Tokens with which all contexts of the task begin; a context that does not is not cut there. */
  ofTask?: readonly number[];
  /** Whether other continuations of the same context are scored too. */
  ofContext?: boolean;
}

/** A shorter beginning is not worth a cache of its own. */
const SHORTEST = 2 * PAGE_TOKENS;

export function sequenceOf(scored: ScoredTokens, { ofTask = [], ofContext = false }: SharedBeginnings = {}): Sequence {
  const { input, targets } = scored;
  // The context's last token is the first to have a target.
  const before = input.length - targets.length;
  const begins = ofTask.length <= before && ofTask.every((token, i) => input[i] === token);
  const root = begins ? wholePages(ofTask.length, 0) : 0;
  const cached = ofContext ? wholePages(before, root) : root;
  const bytes = Int32Array.from([root, cached, input.length, ...input, ...targets]);
  return { ...scored, root, cached, key: hashOf(bytes) };
}

/** Of tokens, for use as a key. */
export function hashOf(tokens: Int32Array): string {
  return createHash('sha256').update(tokens).digest('hex').slice(0, 32);
}

/** Up to the end of a page, so that caches that go on from there share all of their pages; `from` where it is not worth it. */
function wholePages(tokens: number, from: number): number {
  const whole = tokens - (tokens % PAGE_TOKENS);
  return whole - from >= SHORTEST ? whole : from;
}
