/** POST /v1/chat/completions: the next turn of a conversation. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import type { Api } from './api_options.js';
import { conversationIds } from './conversation.js';
import type { ScoredToken } from './engine.js';
import { type ChatBody, samplingOf } from './requests.js';
import { type Prompts, runPrompts, seedOf, usageOf } from './run_request.js';
import { sendEvents } from './stream.js';

function requestOf(api: Api, body: ChatBody): Prompts {
  const { engine, template } = api;
  const prompt = conversationIds(engine.tokenizer, template, body.messages);
  const { seed, stopTexts, ...sampling } = samplingOf(body, seedOf(body.seed));
  const maxNewTokens = body.max_completion_tokens ?? body.max_tokens ?? Math.min(1024, api.maxTokens);
  return {
    ...{ prompts: [prompt], n: body.n ?? 1, seed },
    options: {
      ...{ ...sampling, maxNewTokens, stopTexts: [...stopTexts, ...template.stopTexts], keep: true },
      ...(body.logprobs ? { logProbabilities: body.top_logprobs ?? 0 } : {}),
    },
  };
}

export async function answerChat(api: Api, body: ChatBody, signal: AbortSignal): Promise<object> {
  const request = requestOf(api, body);
  const completions = await runPrompts(api, request, signal);
  return {
    ...envelope(api, 'chat.completion'),
    choices: completions.map(({ text, finish, scores }, index) => ({
      index,
      message: { role: 'assistant', content: text.trimStart(), refusal: null },
      logprobs: body.logprobs ? scoresOf(api, scores) : null,
      finish_reason: finish === 'abort' ? null : finish,
    })),
    usage: usageOf(request.prompts, completions),
  };
}

const scoresOf = (api: Api, scores: readonly ScoredToken[]) => ({
  content: scores.map((one) => scoreOf(api, one)),
  refusal: null,
});

function scoreOf({ engine: { tokenizer } }: Api, { top, ...one }: ScoredToken) {
  const spelled = ({ token, logProbability }: { token: number; logProbability: number }) => {
    const text = tokenizer.decode([token], { skipSpecialTokens: false });
    return { token: text, logprob: logProbability, bytes: [...Buffer.from(text)] };
  };
  return { ...spelled(one), top_logprobs: top.map(spelled) };
}

const envelope = ({ modelName }: Api, object: string) => ({
  ...{ id: `chatcmpl-${randomUUID()}`, object },
  created: Math.floor(Date.now() / 1000),
  model: modelName,
});

export function streamChat(c: Context, api: Api, body: ChatBody): Response | Promise<Response> {
  const request = requestOf(api, body);
  const head = envelope(api, 'chat.completion.chunk');
  const chunk = (index: number, delta: object, finish: string | null, scores: readonly ScoredToken[] = []) => {
    const logprobs = body.logprobs && scores.length > 0 ? scoresOf(api, scores) : null;
    return { ...head, choices: [{ index, delta, logprobs, finish_reason: finish }] };
  };
  // The space between the template's end and the first word is no part of the answer.
  const begun = new Set<number>();
  return sendEvents(c, api, request, {
    *begin() {
      for (let index = 0; index < request.n; index++) yield chunk(index, { role: 'assistant', content: '' }, null);
    },
    piece(index, text, scores) {
      const content = begun.has(index) ? text : text.trimStart();
      if (content === '' && scores.length === 0) return undefined;
      if (content !== '') begun.add(index);
      return chunk(index, { content }, null, scores);
    },
    end: (index, finish, scores) => chunk(index, {}, finish, scores),
    usage: (usage) => (body.stream_options?.include_usage ? { ...head, choices: [], usage } : undefined),
  });
}
