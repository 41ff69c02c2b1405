/** Running a request's prompts, as often as it wants each, within its limits. */

import { ApiError, serverError } from './api_error.js';
import type { Api } from './api_options.js';
import type { Completion, CompletionRequest, ScoredToken } from './engine.js';

export interface Prompts {
  prompts: readonly (readonly number[])[];
  /** Continuations of each. */
  n: number;
  /** One continuation, but for its prompt and seed. */
  options: Omit<CompletionRequest, 'prompt' | 'seed' | 'signal' | 'onText'>;
  seed: number;
}

/**
 * Continues every prompt; results in the order of the prompts, and of one prompt's continuations by seed.
 *
 * @param onText called with the number of the continuation, each piece of its text, and the scores of its tokens if asked for
 * @throws ApiError if a prompt is too long, or time runs out
 */
export async function runPrompts(
  api: Api,
  { prompts, n, options, seed }: Prompts,
  client: AbortSignal,
  onText?: (index: number, piece: string, scores: readonly ScoredToken[]) => void,
): Promise<Completion[]> {
  for (const prompt of prompts) checkPrompt(api, prompt);
  const { maxNewTokens = 0 } = options;
  if (maxNewTokens > api.maxTokens) {
    throw new ApiError(400, `max_tokens is ${maxNewTokens}; this server makes at most ${api.maxTokens}.`, 'max_tokens');
  }
  api.engine.checkRoom(prompts.length * n);
  const time = AbortSignal.timeout(api.seconds * 1000);
  // Whichever fails takes the others with it.
  const failed = new AbortController();
  const signal = AbortSignal.any([client, time, failed.signal]);
  const start = (prompt: readonly number[], index: number, k: number) =>
    api.engine.complete({
      ...{ ...options, prompt, signal, seed: seed + k },
      ...(onText ? { onText: onText.bind(undefined, index) } : {}),
    });
  const requests: Promise<Completion>[] = [];
  try {
    for (const [i, prompt] of prompts.entries()) {
      for (let k = 0; k < n; k++) requests.push(start(prompt, i * n + k, k));
    }
  } catch (error) {
    failed.abort();
    throw error;
  }
  const completions = await Promise.all(requests).catch((error) => {
    failed.abort();
    throw serverError(error);
  });
  if (time.aborted && completions.some(({ finish }) => finish === 'abort')) {
    throw new ApiError(504, `The request took longer than ${api.seconds} seconds.`, null, 'timeout');
  }
  return completions;
}

/** @throws ApiError where the prompt is too long, or of tokens that the model does not have */
export function checkPrompt({ maxPromptTokens, engine }: Api, prompt: readonly number[]): void {
  if (prompt.length > maxPromptTokens) {
    throw new ApiError(
      400,
      `The prompt has ${prompt.length} tokens; this server reads at most ${maxPromptTokens}.`,
      'prompt',
      'context_length_exceeded',
    );
  }
  const { vocabSize } = engine.model.config;
  const outside = prompt.find((id) => id >= vocabSize);
  if (outside === undefined) return;
  throw new ApiError(400, `Token ${outside} is not in the model's vocabulary of ${vocabSize}.`, 'prompt');
}

/** A seed for a request that names none: each call then has a text of its own, as clients expect. */
export const seedOf = (seed: number | null | undefined) => seed ?? Math.floor(Math.random() * 2 ** 31);

export function usageOf(prompts: readonly (readonly number[])[], completions: readonly Completion[]) {
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  const completionTokens = completions.reduce((sum, { tokens }) => sum + tokens, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}
