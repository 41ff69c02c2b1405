/** Answers in pieces, as server-sent events. */
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { describeError } from './api_error.js';
import type { Api } from './api_options.js';
import type { ScoredToken } from './engine.js';
import { checkPrompt, type Prompts, runPrompts, usageOf } from './run_request.js';

/** What an answer's events look like; undefined where there is nothing to send. */
export interface Events {
  begin(): Iterable<object>;
  piece(index: number, text: string, scores: readonly ScoredToken[]): object | undefined;
  /** @param scores of tokens that came into no piece */
  end(index: number, finish: 'stop' | 'length', scores: readonly ScoredToken[]): object;
  usage(usage: object): object | undefined;
}

/** @throws ApiError for what is known to be wrong before the first event */
export function sendEvents(c: Context, api: Api, request: Prompts, events: Events): Response | Promise<Response> {
  for (const prompt of request.prompts) checkPrompt(api, prompt);
  api.engine.checkRoom(request.prompts.length * request.n);
  return streamSSE(c, async (stream) => {
    const left = new AbortController();
    stream.onAbort(() => left.abort());
    const write = (event: object | undefined) => event && stream.writeSSE({ data: JSON.stringify(event) });
    let sent: Promise<unknown> = Promise.resolve();
    const send = (event: object | undefined) => {
      sent = sent.then(() => write(event)).catch(() => left.abort());
    };
    try {
      for (const event of events.begin()) send(event);
      const signal = AbortSignal.any([left.signal, c.req.raw.signal]);
      const completions = await runPrompts(api, request, signal, (...piece) => send(events.piece(...piece)));
      for (const [index, { finish, scores, scoresGiven }] of completions.entries()) {
        if (finish !== 'abort') send(events.end(index, finish, scores.slice(scoresGiven)));
      }
      send(events.usage(usageOf(request.prompts, completions)));
    } catch (error) {
      send(describeError(error).body);
    }
    await sent;
    if (!left.signal.aborted) await stream.writeSSE({ data: '[DONE]' });
  });
}
