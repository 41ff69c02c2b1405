/**
 * Continuing a prompt: the prompt fills the cache in chunks, then one token at a time is sampled from the last logits.
 */
import { generator, UserError } from '@stickbreaking/base';
import type { Ints } from '@stickbreaking/core';
import type { Tensor1D } from '@tensorflow/tfjs-core';
import type { KeyValueCache } from './cache.js';

/** How to continue a prompt. */
export interface GenerateOptions {
  /** Default 256. */
  maxNewTokens?: number;
  /** 0 takes the most likely token; default 1. */
  temperature?: number;
  /** Sample from the `topK` most likely tokens. */
  topK?: number;
  /** Sample from the most likely tokens that together have this probability. */
  topP?: number;
  /** The same seed gives the same continuation; default 0. */
  seed?: number;
  /** Tokens that end the continuation and are not part of it. */
  stop?: readonly number[];
}

/** What generation asks of a model. */
interface GeneratingModel {
  createCache(): KeyValueCache;
  /** [vocabSize] */
  lastLogits(tokens: Ints, options: { cache: KeyValueCache }): Tensor1D;
}

/** How many prompt tokens run through the model at once, which bounds the memory of a long prompt. */
const PREFILL_TOKENS = 1024;

export async function* generate(
  model: GeneratingModel,
  prompt: Ints,
  options: GenerateOptions,
): AsyncGenerator<number> {
  const { maxNewTokens = 256, seed = 0, stop = [] } = options;
  checkGenerateOptions(options);
  if (prompt.length === 0) throw new UserError('The prompt is empty; a continuation needs at least one token.');
  const random = generator(seed, 'generate');
  const cache = model.createCache();
  try {
    let logits = await prefill(model, prompt, cache);
    for (let made = 0; made < maxNewTokens; made++) {
      const token = sample(logits, options, random);
      if (stop.includes(token)) return;
      yield token;
      if (made + 1 < maxNewTokens) logits = await logitsAfter(model, [token], cache);
    }
  } finally {
    cache.dispose();
  }
}

async function prefill(model: GeneratingModel, prompt: Ints, cache: KeyValueCache): Promise<Float32Array> {
  let logits = new Float32Array();
  for (let begin = 0; begin < prompt.length; begin += PREFILL_TOKENS) {
    logits = await logitsAfter(model, prompt.slice(begin, begin + PREFILL_TOKENS), cache);
  }
  return logits;
}

async function logitsAfter(
  model: GeneratingModel,
  tokens: Ints,
  cache: KeyValueCache,
): Promise<Float32Array<ArrayBuffer>> {
  const logits = model.lastLogits(tokens, { cache });
  const values = (await logits.data()) as Float32Array<ArrayBuffer>;
  logits.dispose();
  return values;
}

/** @throws UserError that names the first option with an impossible value */
export function checkGenerateOptions(options: GenerateOptions): void {
  const { maxNewTokens = 1, temperature = 1, topK = 1, topP = 1, seed = 0 } = options;
  const expect = (fits: boolean, name: keyof GenerateOptions, expected: string) => {
    if (!fits) throw new UserError(`${name} is ${options[name]}; expected ${expected}.`);
  };
  expect(Number.isInteger(maxNewTokens) && maxNewTokens > 0, 'maxNewTokens', 'a positive whole number');
  expect(Number.isFinite(temperature) && temperature >= 0, 'temperature', '0 or more');
  expect(Number.isInteger(topK) && topK > 0, 'topK', 'a positive whole number');
  expect(topP > 0 && topP <= 1, 'topP', 'more than 0 and at most 1');
  expect(Number.isSafeInteger(seed), 'seed', 'a whole number');
}

/** Samples a token: temperature, then the topK most likely, then the smallest set of them with probability topP. */
export function sample(logits: Float32Array, options: GenerateOptions, random: () => number): number {
  const { temperature = 1, topK = logits.length, topP = 1 } = options;
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  if (temperature === 0) return order[0]!;
  const highest = logits[order[0]!]!;
  const likeliest = order.slice(0, topK);
  const weights = likeliest.map((token) => Math.exp((logits[token]! - highest) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let kept = 0;
  let mass = 0;
  while (kept < weights.length && mass < topP * total) mass += weights[kept++]!;
  let point = random() * mass;
  for (let i = 0; i < kept; i++) {
    point -= weights[i]!;
    if (point < 0) return likeliest[i]!;
  }
  return likeliest[kept - 1]!;
}
