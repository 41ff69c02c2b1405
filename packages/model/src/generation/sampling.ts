/**
 * The next token from its logits. In this order: repetition penalty, temperature, the topK most likely, the most likely of
 * them that have probability topP together, those at least minP as probable as the first. Nothing sorts the vocabulary:
 * only tokens near the most likely one are put in order, as many as are needed.
 */
import { UserError } from '@stickbreaking/base';
import type { GenerateOptions } from './options.js';

/** A token and the logarithm of its probability before penalty, temperature and selection. */
export interface TokenLogProbability {
  token: number;
  logProbability: number;
}

/**
 * @param uniform in [0, 1), the one random number that a draw takes
 * @param earlier tokens of the prompt and the continuation, for the repetition penalty
 * @throws UserError if the largest logit is not finite
 */
export function sample(
  logits: Float32Array,
  options: GenerateOptions,
  uniform: number,
  earlier?: ReadonlySet<number>,
): number {
  const { temperature = 1, topK = logits.length, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  const penalised = repetitionPenalty === 1 || !earlier ? logits : penalise(logits, repetitionPenalty, earlier);
  const first = likeliest(penalised);
  const highest = penalised[first]!;
  if (!Number.isFinite(highest)) throw notFinite(highest);
  if (temperature === 0) return first;
  const weight = (token: number) => Math.exp((penalised[token]! - highest) / temperature);
  if (topK >= logits.length && topP === 1 && minP === 0) return draw(logits.keys(), weight, uniform);
  return draw(selected(penalised, { highest, temperature, topK, topP, minP, weight }), weight, uniform);
}

/** What a user is told of logits whose largest is this. */
export function notFinite(highest: number): UserError {
  return new UserError(
    `The model gives no finite logits: the largest is ${highest}. Its weights may have diverged; take an earlier checkpoint.`,
  );
}

interface Selection {
  highest: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  weight(token: number): number;
}

/** The tokens that a draw is among, the most likely first. */
function selected(logits: Float32Array, { highest, temperature, topK, topP, minP, weight }: Selection): number[] {
  const massOf = (tokens: Iterable<number>) => {
    let sum = 0;
    for (const token of tokens) sum += weight(token);
    return sum;
  };
  let near: number[];
  let wanted = Number.POSITIVE_INFINITY;
  if (topK < logits.length) {
    near = nearest(logits, highest, temperature, (some) => some.length >= topK).slice(0, topK);
    if (topP < 1) wanted = topP * massOf(near);
  } else if (topP < 1) {
    wanted = topP * massOf(logits.keys());
    near = nearest(logits, highest, temperature, (some) => massOf(some) >= wanted);
  } else {
    near = nearTokens(logits, highest + temperature * Math.log(minP));
  }
  let mass = 0;
  const end = near.findIndex((token, i) => {
    const enough = i > 0 && (mass >= wanted || weight(token) < minP);
    mass += weight(token);
    return enough;
  });
  return end < 0 ? near : near.slice(0, end);
}

/** The first of the largest logits. */
export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token]! > logits[best]!) best = token;
  return best;
}

/** The log-probability of a token, and those of the `count` most likely ones. */
export function logProbabilities(
  logits: Float32Array,
  token: number,
  count: number,
): { logProbability: number; top: TokenLogProbability[] } {
  const highest = logits[likeliest(logits)]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - highest);
  const of = (one: number) => logits[one]! - highest - Math.log(sum);
  const top: TokenLogProbability[] = [];
  if (count > 0) {
    const near = nearest(logits, highest, 1, (some) => some.length >= count);
    for (const one of near.slice(0, count)) top.push({ token: one, logProbability: of(one) });
  }
  return { logProbability: of(token), top };
}

function penalise(logits: Float32Array, penalty: number, earlier: ReadonlySet<number>): Float32Array {
  const changed = logits.slice();
  for (const token of earlier) {
    const logit = logits[token]!;
    changed[token] = logit > 0 ? logit / penalty : logit * penalty;
  }
  return changed;
}

/** The most likely tokens in order, as many as are enough, or all. */
function nearest(
  logits: Float32Array,
  highest: number,
  temperature: number,
  enough: (tokens: readonly number[]) => boolean,
): number[] {
  for (let reach = 4 * temperature; ; reach *= 4) {
    const near = nearTokens(logits, highest - reach);
    if (enough(near) || near.length === logits.length || reach === Number.POSITIVE_INFINITY) return near;
  }
}

/** Tokens with at least this logit, the most likely first; of equal ones the lower number. */
function nearTokens(logits: Float32Array, least: number): number[] {
  const near: number[] = [];
  for (let token = 0; token < logits.length; token++) if (logits[token]! >= least) near.push(token);
  return near.sort((a, b) => logits[b]! - logits[a]! || a - b);
}

/** By the cumulated weights, in the order given. */
function draw(tokens: Iterable<number>, weight: (token: number) => number, uniform: number): number {
  const candidates: number[] = [];
  const sums: number[] = [];
  let sum = 0;
  for (const token of tokens) {
    sum += weight(token);
    candidates.push(token);
    sums.push(sum);
  }
  const point = uniform * sum;
  const at = sums.findIndex((below) => point < below);
  return candidates[at < 0 ? candidates.length - 1 : at]!;
}
