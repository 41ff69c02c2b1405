/** How a prompt is continued. */
import { OptionError } from '@stickbreaking/base';
import type { Ints } from '@stickbreaking/core';
import type { KeyValueCache } from '../cache.js';

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
  /** Sample from tokens at least this probable beside the most likely one; default 0. */
  minP?: number;
  /**
   * Logits of tokens that came before, in prompt or continuation, are divided by it where positive and multiplied where
   * negative (https://arxiv.org/abs/1909.05858); default 1.
   */
  repetitionPenalty?: number;
  /** The same seed gives the same continuation, whatever else is in a batch; default 0. */
  seed?: number;
  /** Tokens that end the continuation and are not part of it. */
  stop?: readonly number[];
  /** Give the log-probability of each token, and those of so many of the most likely ones; default: none. */
  logProbabilities?: number;
}

/** One prompt of a batch. */
export interface GenerationRequest extends GenerateOptions {
  /** At least one token. */
  prompt: Ints;
  /** A cache whose tokens come before the prompt. It is forked, not changed, and may be disposed of once the request is added. */
  prefix?: KeyValueCache;
  /** Ends the continuation before its next token. */
  signal?: AbortSignal;
  /** Give the cache with the continuation's end, for prompts that begin with the same tokens; default: it is disposed of. */
  keepCache?: boolean;
}

/** @throws UserError that names the first option with an impossible value */
export function checkGenerateOptions(options: GenerateOptions): void {
  const { maxNewTokens = 1, temperature = 1, topK = 1, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  const { logProbabilities = 0 } = options;
  const expect = (fits: boolean, name: keyof GenerateOptions, expected: string) => {
    if (!fits) throw new OptionError(name, options[name], expected);
  };
  expect(Number.isInteger(maxNewTokens) && maxNewTokens > 0, 'maxNewTokens', 'a positive whole number');
  expect(Number.isFinite(temperature) && temperature >= 0, 'temperature', '0 or more');
  expect(Number.isInteger(topK) && topK > 0, 'topK', 'a positive whole number');
  expect(topP > 0 && topP <= 1, 'topP', 'more than 0 and at most 1');
  expect(minP >= 0 && minP <= 1, 'minP', '0 to 1');
  // What divides or multiplies logits must leave them finite in float32.
  expect(repetitionPenalty >= 1e-6 && repetitionPenalty <= 1e6, 'repetitionPenalty', 'a number between 1e-6 and 1e6');
  expect(Number.isSafeInteger(seed), 'seed', 'a whole number');
  expect(Number.isInteger(logProbabilities) && logProbabilities >= 0, 'logProbabilities', 'a whole number from 0');
}
