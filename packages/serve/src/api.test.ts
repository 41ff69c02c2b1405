/** The HTTP interface, spoken to by OpenAI's own client over a real socket. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createAdaptorServer, type ServerType } from '@hono/node-server';
import { type OpenedCheckpoint, openCheckpoint } from '@stickbreaking/eval';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApi } from './api.js';
import type { ApiOptions } from './api_options.js';
import { ChatTemplate } from './chat_template.js';
import { Engine } from './engine.js';
import { smallModel } from './small_model.fixture.js';

let folder: string;
let opened: OpenedCheckpoint;
const servers: ServerType[] = [];

beforeAll(async () => {
  folder = await smallModel();
  opened = await openCheckpoint(join(folder, 'model'));
});
afterAll(() => {
  for (const server of servers) server.close();
  opened.model.dispose();
  rmSync(folder, { recursive: true });
});

/** A server of its own, and a client of it. */
async function serve(options: Partial<ApiOptions> = {}, engine = new Engine(opened.model, opened.tokenizer)) {
  const template = ChatTemplate.open(join(folder, 'model'), { bosToken: undefined, eosToken: '<|endoftext|>' });
  const app = createApi({ engine, template, modelName: 'small', created: 1, ...options });
  const server = createAdaptorServer({ fetch: app.fetch });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  return { url, client, engine };
}

/** What the model says on its own. */
async function greedy(prompt: string, maxNewTokens: number): Promise<string> {
  const { model, tokenizer } = opened;
  const ids: number[] = [];
  const from = [tokenizer.beginId, ...tokenizer.encode(prompt)];
  for await (const id of model.generate(from, { maxNewTokens, temperature: 0, stop: tokenizer.stopIds })) ids.push(id);
  return tokenizer.decode(ids);
}

describe('completions', () => {
  it('are the continuation that the model makes on its own, with their counts', async () => {
    const { client } = await serve();
    const request = { model: 'small', prompt: 'The line', max_tokens: 12, temperature: 0 } as const;
    const { choices, usage } = await client.completions.create(request);
    expect(choices).toHaveLength(1);
    expect(choices[0]!.text).toBe(await greedy('The line', 12));
    expect(choices[0]!.finish_reason).toMatch(/length|stop/);
    expect(usage!.prompt_tokens).toBe(opened.tokenizer.encode('The line').length + 1);
    expect(usage!.total_tokens).toBe(usage!.prompt_tokens + usage!.completion_tokens);
  });

  it('of several prompts at once, several each, are those of each alone', async () => {
    const { client } = await serve();
    const sampled = { model: 'small', max_tokens: 8, temperature: 1, seed: 5 } as const;
    const { choices } = await client.completions.create({ ...sampled, prompt: ['The', 'words of', 'say'], n: 2 });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
    for (const [i, prompt] of ['The', 'words of', 'say'].entries()) {
      for (const k of [0, 1]) {
        const alone = await client.completions.create({ ...sampled, prompt, seed: 5 + k });
        expect(choices[2 * i + k]!.text).toBe(alone.choices[0]!.text);
      }
    }
  });

  it('come in pieces that make the same text', async () => {
    const { client } = await serve();
    const request = { model: 'small', prompt: 'The text', max_tokens: 20, temperature: 0 } as const;
    const { choices } = await client.completions.create(request);
    const pieces: string[] = [];
    let finish: string | null = null;
    let used: OpenAI.CompletionUsage | null | undefined;
    const options = { stream: true, stream_options: { include_usage: true } } as const;
    for await (const chunk of await client.completions.create({ ...request, ...options })) {
      for (const choice of chunk.choices) {
        pieces.push(choice.text);
        finish = choice.finish_reason ?? finish;
      }
      used = chunk.usage ?? used;
    }
    expect(pieces.length).toBeGreaterThan(2);
    expect(pieces.join('')).toBe(choices[0]!.text);
    expect(finish).toBe(choices[0]!.finish_reason);
    expect(used?.completion_tokens).toBeGreaterThan(0);
  });

  it('come in pieces with the scores of the whole', async () => {
    const { client } = await serve();
    const request = { model: 'small', prompt: 'The text', max_tokens: 15, temperature: 0, logprobs: 2 } as const;
    const whole = (await client.completions.create(request)).choices[0]!.logprobs!;
    const tokens: string[] = [];
    const scores: (number | null)[] = [];
    const offsets: number[] = [];
    for await (const { choices } of await client.completions.create({ ...request, stream: true })) {
      tokens.push(...(choices[0]!.logprobs?.tokens ?? []));
      scores.push(...(choices[0]!.logprobs?.token_logprobs ?? []));
      offsets.push(...(choices[0]!.logprobs?.text_offset ?? []));
    }
    expect(tokens).toEqual(whole.tokens);
    expect(scores).toEqual(whole.token_logprobs);
    expect(offsets).toEqual(whole.text_offset);
  });

  it('end before a stop text', async () => {
    const { client } = await serve();
    const whole = await greedy('The', 20);
    const stop = whole.slice(4, 7);
    const { choices } = await client.completions.create({
      model: 'small',
      prompt: 'The',
      max_tokens: 20,
      temperature: 0,
      stop,
    });
    expect(choices[0]!.text).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(choices[0]!.finish_reason).toBe('stop');
  });

  it('score a prompt of ids, as lm-evaluation-harness asks for it', async () => {
    const { client } = await serve();
    const prompt = [opened.tokenizer.beginId, ...opened.tokenizer.encode('The 4th line')];
    const { choices } = await client.completions.create({
      ...{ model: 'small', prompt: [prompt], max_tokens: 1, temperature: 0, logprobs: 1, echo: true, seed: 1 },
    });
    const { tokens, token_logprobs: scores, top_logprobs: top } = choices[0]!.logprobs!;
    expect(tokens).toHaveLength(prompt.length + 1);
    expect(scores![0]).toBeNull();
    const losses = opened.model.tokenLosses({
      tokens: prompt.slice(0, -1),
      targets: prompt.slice(1),
      cuSeqlens: [0, prompt.length - 1],
    });
    for (const [i, loss] of (await losses.data()).entries()) expect(scores![i + 1]).toBeCloseTo(-loss, 4);
    losses.dispose();
    for (const one of top!.slice(1)) expect(Object.values(one)).toHaveLength(1);
    // The one new token is the likeliest, so that both scores agree.
    expect(Object.values(top!.at(-1)!)[0]).toBeCloseTo(scores!.at(-1)!, 5);
  });

  it('score a text without adding to it', async () => {
    const { client } = await serve();
    const request = { model: 'small', prompt: 'The words', max_tokens: 0, logprobs: 0, echo: true };
    const { choices, usage } = await client.completions.create(request);
    expect(choices[0]!.text).toBe('The words');
    expect(choices[0]!.logprobs!.tokens!.join('')).toBe('The words');
    expect(choices[0]!.logprobs!.text_offset![0]).toBe(0);
    expect(usage!.completion_tokens).toBe(0);
  });
});

describe('chat completions', () => {
  const messages = [{ role: 'user', content: 'The words?' }] as const;

  it('go on from the template, whole or in pieces', async () => {
    const { client } = await serve();
    const request = { model: 'small', messages: [...messages], max_tokens: 12, temperature: 0 };
    const { choices } = await client.chat.completions.create(request);
    const expected = (await greedy('User: The words?\nAssistant:', 12)).split('\nUser:')[0]!;
    expect(choices[0]!.message).toMatchObject({ role: 'assistant', content: expected.trimStart() });
    let streamed = '';
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed += chunk.choices[0]?.delta.content ?? '';
    }
    expect(streamed).toBe(expected.trimStart());
  });

  it('read only what is new of a conversation, until its cache is given up', async () => {
    const turn = async (client: OpenAI, said: readonly OpenAI.ChatCompletionMessageParam[]) => {
      const request = { model: 'small', messages: [...said], max_tokens: 30, temperature: 0 };
      return (await client.chat.completions.create(request)).choices[0]!.message.content!;
    };
    const { model, tokenizer } = await openCheckpoint(join(folder, 'model'));
    const read = vi.spyOn(model, 'nextLogits');
    const readSince = (from: number) => Math.max(...read.mock.calls.slice(from).map(([tokens]) => tokens.length));
    const engine = new Engine(model, tokenizer, { keepTokens: 200 });
    const { client } = await serve({}, engine);
    const said: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'The words of a text? '.repeat(4) }];
    const first = await turn(client, said);
    said.push({ role: 'assistant', content: first }, { role: 'user', content: 'And more?' });
    let calls = read.mock.calls.length;
    const second = await turn(client, said);
    const short = readSince(calls);
    // A server that keeps nothing reads it all and says the same.
    const { client: other } = await serve({}, new Engine(model, tokenizer, { keepTokens: 0 }));
    calls = read.mock.calls.length;
    expect(await turn(other, said)).toBe(second);
    // At least the first question, whatever the tokens of the answer as a text are.
    expect(short).toBeLessThanOrEqual(readSince(calls) - tokenizer.encode('The words of a text? '.repeat(4)).length);
    for (const word of ['some', 'other', 'thing']) await turn(client, [{ role: 'user', content: word.repeat(20) }]);
    engine.dispose();
    expect(model.createCache().store.capacity).toBe(0);
    model.dispose();
  });

  it('tell log-probabilities, whole or in pieces', async () => {
    const { client } = await serve();
    const request = {
      ...{ model: 'small', messages: [...messages], max_tokens: 4, logprobs: true, top_logprobs: 3, temperature: 0 },
    };
    const { choices } = await client.chat.completions.create(request);
    const streamed = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed.push(...(chunk.choices[0]!.logprobs?.content ?? []));
    }
    expect(streamed).toEqual(choices[0]!.logprobs!.content);
    for (const { logprob, top_logprobs } of choices[0]!.logprobs!.content!) {
      expect(top_logprobs).toHaveLength(3);
      expect(top_logprobs[0]!.logprob).toBeCloseTo(logprob, 5);
    }
  });
});

describe('models and health', () => {
  it('name the one model', async () => {
    const { client, url } = await serve();
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['small']);
    expect((await client.models.retrieve('small')).object).toBe('model');
    await expect(client.models.retrieve('large')).rejects.toMatchObject({ status: 404 });
    expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'ok', requests: 0 });
  });
});

describe('what is refused', () => {
  const post = (url: string, body: string, type = 'application/json', path = 'completions') =>
    fetch(`${url}/v1/${path}`, { method: 'POST', body, headers: { 'content-type': type } });

  it.each([
    [{ max_tokens: 5000, prompt: 'The' }, 400, /at most 4096/],
    [{ prompt: 'The', temperature: -1 }, 400, /temperature/],
    [{ prompt: 'The', model: 'large' }, 404, /no model 'large' here; there is 'small'/],
    [{ prompt: [[1, 299], [300]] }, 400, /Token 300 is not in the model's vocabulary of 300/],
    [{ prompt: [[1, 299], [300]], stream: true }, 400, /Token 300 is not in the model's vocabulary of 300/],
    [{ prompt: [300], echo: true, logprobs: 1, max_tokens: 0 }, 400, /Token 300/],
    [{ prompt: [300], echo: true, max_tokens: 0 }, 400, /Token 300/],
    [{ prompt: { text: 'The' } }, 400, /prompt: expected a text/],
    [{ prompt: 'The', logprobs: 1, echo: true, stream: true }, 400, /ask without stream/],
    [{}, 400, /prompt/],
  ])('%j', async (body, status, message) => {
    const { url, engine } = await serve();
    const response = await post(url, JSON.stringify(body));
    expect([response.status, engine.size]).toEqual([status, 0]);
    const { error } = (await response.json()) as { error: { message: string; type: string } };
    expect(error.message).toMatch(message);
    expect(error.type).toBe('invalid_request_error');
  });

  it.each([
    [
      [
        { type: 'text', text: 'What is this?' },
        { type: 'image_url', image_url: { url: 'data:,' } },
      ],
      'messages.0.content.1.type: expected text; this model reads nothing else',
    ],
    [[{ type: 'text' }], /^messages\.0\.content\.0\.text: .*expected string/],
    [5, /^messages\.0\.content: .*expected string/],
  ])('messages whose parts are no text, by name', async (content, message) => {
    const { url } = await serve();
    const body = JSON.stringify({ messages: [{ role: 'user', content }] });
    const response = await post(url, body, undefined, 'chat/completions');
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: { message: string } }).error.message).toMatch(message);
  });

  it('what is no JSON, from a form, too large, elsewhere', async () => {
    const { url } = await serve({ maxBodyBytes: 1000 });
    expect((await post(url, '{')).status).toBe(400);
    expect((await post(url, '{"prompt":"The"}', 'text/plain')).status).toBe(415);
    expect((await post(url, JSON.stringify({ prompt: 'x'.repeat(2000) }))).status).toBe(413);
    expect((await fetch(`${url}/v2`)).status).toBe(404);
  });

  it('prompts that are too long, requests that take too long', async () => {
    const { client } = await serve({ maxPromptTokens: 3 });
    const long = client.completions.create({ model: 'small', prompt: 'The words of a text' });
    await expect(long).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' });
    const slow = (await serve({ seconds: 0.001 })).client;
    const never = slow.completions.create({ model: 'small', prompt: 'The', max_tokens: 4096, temperature: 1 });
    await expect(never).rejects.toMatchObject({ status: 504 });
  });

  it('more requests than may wait, until there is room again', async () => {
    const { client, engine } = await serve({}, new Engine(opened.model, opened.tokenizer, { batchSize: 1, queue: 2 }));
    const three = client.completions.create({ model: 'small', prompt: ['a', 'b', 'c'], max_tokens: 1 });
    await expect(three).rejects.toMatchObject({ status: 429, code: 'queue_full' });
    expect(
      (await client.completions.create({ model: 'small', prompt: ['a', 'b'], max_tokens: 1 })).choices,
    ).toHaveLength(2);
    expect(engine.size).toBe(0);
  });

  it('clients without the key, where one is asked for', async () => {
    const { url } = await serve({ apiKey: 'secret' });
    const models = (key: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 }).models.list();
    await expect(models('wrong')).rejects.toMatchObject({ status: 401 });
    expect((await models('secret')).data).toHaveLength(1);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });
});

describe('a client that leaves', () => {
  it('makes room for others', async () => {
    const { client, engine } = await serve();
    const request = { model: 'small', prompt: 'The', max_tokens: 4096, temperature: 1, stream: true } as const;
    let pieces = 0;
    for await (const _ of await client.completions.create(request)) if (++pieces === 3) break;
    await expect.poll(() => engine.size, { timeout: 20_000 }).toBe(0);
    const controller = new AbortController();
    const whole = client.completions.create({ ...request, stream: false }, { signal: controller.signal });
    await expect.poll(() => engine.size).toBe(1);
    controller.abort();
    await expect(whole).rejects.toThrow(/abort/i);
    await expect.poll(() => engine.size, { timeout: 20_000 }).toBe(0);
  });
});
