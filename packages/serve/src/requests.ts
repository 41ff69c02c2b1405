/** What a client may ask: OpenAI's fields that mean something here. Others are ignored, as clients send many. */
import { z } from 'zod';

const texts = z.union([z.string(), z.array(z.string()).max(16)]).nullish();
const limited = z.int().positive();

/** How to sample, for both kinds of request. */
const sampling = {
  model: z.string().optional(),
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  seed: z.int().nullish(),
  stop: texts,
  n: z.int().min(1).max(16).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
};

const ids = z.array(z.int().nonnegative()).min(1);

/** POST /v1/completions */
export const CompletionSchema = z.looseObject({
  ...sampling,
  prompt: z.union(
    [
      z.string(),
      ids,
      z
        .array(z.union([z.string(), ids]))
        .min(1)
        .max(256),
    ],
    {
      error: 'expected a text, a list of texts, a list of token ids, or a list of such lists',
    },
  ),
  max_tokens: z.int().nonnegative().nullish(),
  logprobs: z.int().min(0).max(20).nullish(),
  echo: z.boolean().nullish(),
});
export type CompletionBody = z.output<typeof CompletionSchema>;

const content = z.union([
  z.string(),
  z
    .array(
      z.looseObject({
        type: z.literal('text', { error: 'expected text; this model reads nothing else' }),
        text: z.string(),
      }),
    )
    .transform((parts) => parts.map(({ text }) => text).join('')),
]);

/** POST /v1/chat/completions */
export const ChatSchema = z.looseObject({
  ...sampling,
  messages: z.array(z.looseObject({ role: z.string().min(1), content })).min(1),
  max_tokens: limited.nullish(),
  max_completion_tokens: limited.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
});
export type ChatBody = z.output<typeof ChatSchema>;

/** The engine's options that a request gives; the rest keep OpenAI's defaults. */
export function samplingOf(body: Pick<CompletionBody, keyof typeof sampling>, seed: number) {
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    minP: body.min_p ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    // 0 and −1 are other servers' words for no limit.
    ...(body.top_k && body.top_k > 0 ? { topK: body.top_k } : {}),
    seed,
    stopTexts: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
  };
}
