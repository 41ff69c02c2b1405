/**
 * The next token from its logits. In this order: repetition penalty, temperature, the topK most likely, the most likely of
 * them that have probability topP together, those at least minP as probable as the first. Nothing sorts the
 * vocabulary.
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
  const weights = scratch(0, logits.length);
  for (let token = 0; token < weights.length; token++) {
    weights[token] = Math.exp((penalised[token]! - highest) / temperature);
  }
  return draw(weights, selection(weights, { topK, topP, minP }), uniform);
}

/** The tokens that a draw is among: those of a larger weight than `least`, and the first `ties` of just that weight. */
interface Selection {
  least: number;
  ties: number;
}

const ALL: Selection = { least: -1, ties: 0 };

function selection(
  weights: Float64Array,
  { topK, topP, minP }: { topK: number; topP: number; minP: number },
): Selection {
  let kept = ALL;
  let mass = 0;
  if (topK < weights.length) {
    const { least, count, mass: above } = leastOf(weights, topK, 0);
    kept = { least, ties: topK - count };
    mass = above + kept.ties * least;
  } else if (topP < 1) {
    for (const weight of weights) mass += weight;
  }
  if (topP < 1) {
    const { least, mass: above } = leastOf(weights, 1, topP * mass);
    const ties = Math.max(1, Math.ceil((topP * mass - above) / least));
    kept = { least, ties: least === kept.least ? Math.min(ties, kept.ties) : ties };
  }
  // The most likely token's weight is 1.
  return minP > kept.least && minP > 0 ? { least: minP, ties: weights.length } : kept;
}

/**
 * The largest weight so that the tokens of at least it are `count` or more and have `mass` or more; and how many are of a
 * larger one, and their mass. Like quickselect: each turn keeps the part in which it must lie.
 */
function leastOf(weights: Float64Array, count: number, mass: number): { least: number; count: number; mass: number } {
  const values = scratch(1, weights.length);
  values.set(weights);
  let [from, to] = [0, values.length];
  const above = { count: 0, mass: 0 };
  for (;;) {
    const pivot = middle(values[from]!, values[(from + to) >> 1]!, values[to - 1]!);
    // [from, larger) is larger than the pivot, [larger, i) equal, [smaller, to) smaller.
    let [larger, i, smaller] = [from, from, to];
    let sum = 0;
    while (i < smaller) {
      const value = values[i]!;
      if (value > pivot) {
        sum += value;
        values[i++] = values[larger]!;
        values[larger++] = value;
      } else if (value < pivot) {
        values[i] = values[--smaller]!;
        values[smaller] = value;
      } else {
        i++;
      }
    }
    const next = { count: above.count + larger - from, mass: above.mass + sum };
    const equal = smaller - larger;
    if (larger > from && next.count >= count && next.mass >= mass) to = larger;
    else if ((next.count + equal >= count && next.mass + equal * pivot >= mass) || smaller === to) {
      return { least: pivot, ...next };
    } else {
      above.count = next.count + equal;
      above.mass = next.mass + equal * pivot;
      from = smaller;
    }
  }
}

function middle(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

/** By the weights in the order of the tokens. */
function draw(weights: Float64Array, { least, ties }: Selection, uniform: number): number {
  const isAmong = (weight: number, seen: number) => weight > least || (weight === least && seen < ties);
  let whole = 0;
  let seen = 0;
  for (const weight of weights) {
    if (isAmong(weight, seen)) whole += weight;
    if (weight === least) seen++;
  }
  let point = uniform * whole;
  let last = 0;
  seen = 0;
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token]!;
    if (isAmong(weight, seen)) {
      last = token;
      point -= weight;
      if (point < 0) return token;
    }
    if (weight === least) seen++;
  }
  return last;
}

/** Memory for numbers of all tokens, used again by the next draw. */
const kept: [Float64Array, Float64Array] = [new Float64Array(), new Float64Array()];

function scratch(which: 0 | 1, length: number): Float64Array {
  if (kept[which].length < length) kept[which] = new Float64Array(length);
  return kept[which].subarray(0, length);
}

/** What a user is told of logits whose largest is this. */
export function notFinite(highest: number): UserError {
  return new UserError(
    `The model gives no finite logits: the largest is ${highest}. Its weights may have diverged; take an earlier checkpoint.`,
  );
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
    const weights = scratch(0, logits.length);
    for (let one = 0; one < weights.length; one++) weights[one] = Math.exp(logits[one]! - highest);
    const { least } = count < logits.length ? leastOf(weights, count, 0) : ALL;
    const near = [...logits.keys()].filter((one) => weights[one]! >= least);
    near.sort((x, y) => logits[y]! - logits[x]! || x - y);
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
