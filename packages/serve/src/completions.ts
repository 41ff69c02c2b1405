/** POST /v1/completions: texts or token ids, continued; with `echo` and `logprobs`, scored. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import { ApiError } from './api_error.js';
import type { Api } from './api_options.js';
import type { Completion, ScoredToken } from './engine.js';
import { type CompletionBody, samplingOf } from './requests.js';
import { checkPrompt, type Prompts, runPrompts, seedOf, usageOf } from './run_request.js';
import { sendEvents } from './stream.js';

interface ReadPrompt {
  ids: readonly number[];
  /** The beginning token was put in front of the text, which does not show it. */
  begun: boolean;
}

/** A text begins where a document does; ids are taken as they are. */
function readPrompts({ engine: { tokenizer } }: Api, { prompt }: CompletionBody): ReadPrompt[] {
  const all = typeof prompt === 'string' || typeof prompt[0] === 'number' ? [prompt] : prompt;
  return (all as (string | number[])[]).map((one) =>
    typeof one === 'string'
      ? { ids: [tokenizer.beginId, ...tokenizer.encode(one)], begun: true }
      : { ids: one, begun: false },
  );
}

/** OpenAI's default is 16 tokens. */
function requestOf(body: CompletionBody, prompts: readonly ReadPrompt[]): Prompts {
  const { seed, stopTexts, ...sampling } = samplingOf(body, seedOf(body.seed));
  return {
    prompts: prompts.map(({ ids }) => ids),
    n: body.n ?? 1,
    seed,
    options: {
      ...{ ...sampling, stopTexts, maxNewTokens: body.max_tokens ?? 16 },
      ...(typeof body.logprobs === 'number' ? { logProbabilities: body.logprobs } : {}),
    },
  };
}

export async function answerCompletion(api: Api, body: CompletionBody, signal: AbortSignal): Promise<object> {
  const read = readPrompts(api, body);
  const request = requestOf(body, read);
  // No token at all is asked for by those who want the prompt's own scores.
  const completions = body.max_tokens === 0 ? nothing(request) : await runPrompts(api, request, signal);
  const choices = [];
  for (const [i, prompt] of read.entries()) {
    const before = body.echo ? await echoOf(api, prompt, body.logprobs) : undefined;
    for (let k = 0; k < request.n; k++) {
      const index = i * request.n + k;
      const one = completions[index]!;
      const scores = before ? [...before.scores, ...one.scores.map(known)] : one.scores.map(known);
      choices.push({
        index,
        text: (before?.text ?? '') + one.text,
        logprobs: typeof body.logprobs === 'number' ? logprobsOf(api, scores) : null,
        finish_reason: one.finish === 'abort' ? null : one.finish,
      });
    }
  }
  return { ...envelope(api), choices, usage: usageOf(request.prompts, completions) };
}

function nothing({ prompts, n }: Prompts): Completion[] {
  const none = { text: '', tokens: 0, finish: 'length', scores: [], scoresGiven: 0 } as const;
  return Array.from({ length: prompts.length * n }, () => ({ ...none, scores: [] }));
}

type MaybeScored = { token: number; scored?: ScoredToken };
const known = (scored: ScoredToken): MaybeScored => ({ token: scored.token, scored });

/** The prompt's text and, if asked for, its tokens' scores; the first one of ids has none, as nothing comes before it. */
async function echoOf(
  api: Api,
  { ids, begun }: ReadPrompt,
  logprobs: number | null | undefined,
): Promise<{ text: string; scores: MaybeScored[] }> {
  checkPrompt(api, ids);
  const shown = begun ? ids.slice(1) : ids;
  const text = api.engine.tokenizer.decode(shown, { skipSpecialTokens: false });
  if (typeof logprobs !== 'number') return { text, scores: [] };
  const scores = (await api.engine.score(ids, logprobs)).map(known);
  return { text, scores: begun ? scores : [{ token: ids[0]! }, ...scores] };
}

/** @param begin characters of the text before these tokens */
function logprobsOf({ engine: { tokenizer } }: Api, scores: readonly MaybeScored[], begin = 0) {
  const spelled = (token: number) => tokenizer.decode([token], { skipSpecialTokens: false });
  const tokens = scores.map(({ token }) => spelled(token));
  let offset = begin;
  return {
    tokens,
    token_logprobs: scores.map(({ scored }) => scored?.logProbability ?? null),
    top_logprobs: scores.map(({ scored }) =>
      scored ? Object.fromEntries(scored.top.map((one) => [spelled(one.token), one.logProbability])) : null,
    ),
    text_offset: tokens.map((text) => {
      const at = offset;
      offset += text.length;
      return at;
    }),
  };
}

const envelope = ({ modelName }: Api) => ({
  id: `cmpl-${randomUUID()}`,
  object: 'text_completion',
  created: Math.floor(Date.now() / 1000),
  model: modelName,
});

export function streamCompletion(c: Context, api: Api, body: CompletionBody): Response | Promise<Response> {
  const scored = typeof body.logprobs === 'number';
  if (scored && body.echo) {
    throw new ApiError(400, "a prompt's own logprobs come with the whole answer only; ask without stream.", 'logprobs');
  }
  const read = readPrompts(api, body);
  const request = requestOf(body, read);
  const head = envelope(api);
  const lengths = new Map<number, number>();
  const chunk = (index: number, text: string, finish: string | null, scores: readonly ScoredToken[] = []) => {
    const begin = lengths.get(index) ?? 0;
    const logprobs = scored && scores.length > 0 ? logprobsOf(api, scores.map(known), begin) : null;
    lengths.set(index, begin + (logprobs?.tokens.join('').length ?? 0));
    return { ...head, choices: [{ index, text, logprobs, finish_reason: finish }] };
  };
  return sendEvents(c, api, request, {
    *begin() {
      if (!body.echo) return;
      for (const [i, { ids, begun }] of read.entries()) {
        const text = api.engine.tokenizer.decode(begun ? ids.slice(1) : ids, { skipSpecialTokens: false });
        for (let k = 0; k < request.n; k++) yield chunk(i * request.n + k, text, null);
      }
    },
    piece: (index, text, scores) => chunk(index, text, null, scores),
    end: (index, finish, scores) => chunk(index, '', finish, scores),
    usage: (usage) => (body.stream_options?.include_usage ? { ...head, choices: [], usage } : undefined),
  });
}
