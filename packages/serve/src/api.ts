/** The HTTP interface: OpenAI's completions and chat completions, over one model. */
import { timingSafeEqual } from 'node:crypto';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { ApiError, describeError, parseBody } from './api_error.js';
import type { Api, ApiOptions } from './api_options.js';
import { answerChat, streamChat } from './chat.js';
import { answerCompletion, streamCompletion } from './completions.js';
import { ChatSchema, CompletionSchema } from './requests.js';

/** The application: `fetch` answers a Request, whatever serves it. */
export function createApi(options: ApiOptions): Hono {
  const api: Api = { maxTokens: 4096, maxPromptTokens: 65_536, seconds: 600, maxBodyBytes: 4 * 2 ** 20, ...options };
  const app = new Hono();
  app.onError((error, c) => {
    const { status, body } = describeError(error);
    if (status === 429) c.header('Retry-After', '1');
    return c.json(body, status);
  });
  app.notFound((c) =>
    c.json(describeError(new ApiError(404, `There is nothing at ${c.req.method} ${c.req.path}.`)).body, 404),
  );
  if (options.apiKey !== undefined) app.use('/v1/*', (c, next) => checkKey(c, options.apiKey!).then(next));
  const tooLarge = () => {
    throw new ApiError(413, `The request's body has more than ${api.maxBodyBytes} bytes.`);
  };
  app.use('/v1/*', bodyLimit({ maxSize: api.maxBodyBytes, onError: tooLarge }));

  app.get('/health', (c) => c.json({ status: 'ok', requests: api.engine.size }));
  const model = { id: api.modelName, object: 'model', created: api.created, owned_by: 'stickbreaking' };
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [model] }));
  app.get('/v1/models/:id{.+}', (c) => {
    checkModel(api, c.req.param('id'));
    return c.json(model);
  });
  app.post('/v1/completions', async (c) => {
    const body = parseBody(CompletionSchema, await json(c));
    checkModel(api, body.model);
    return body.stream ? streamCompletion(c, api, body) : c.json(await answerCompletion(api, body, c.req.raw.signal));
  });
  app.post('/v1/chat/completions', async (c) => {
    const body = parseBody(ChatSchema, await json(c));
    checkModel(api, body.model);
    return body.stream ? streamChat(c, api, body) : c.json(await answerChat(api, body, c.req.raw.signal));
  });
  return app;
}

async function checkKey(c: Context, key: string): Promise<void> {
  const given = Buffer.from(c.req.header('authorization') ?? '');
  const expected = Buffer.from(`Bearer ${key}`);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new ApiError(401, 'The API key is missing or wrong.', null, 'invalid_api_key');
  }
}

/** A web page of anybody's may send a form or plain text here, but no JSON. */
async function json(c: Context): Promise<unknown> {
  if (!/^application\/json\b/i.test(c.req.header('content-type') ?? '')) {
    throw new ApiError(415, 'expected a body of the type application/json');
  }
  try {
    return await c.req.json();
  } catch (error) {
    if (error instanceof SyntaxError) throw new ApiError(400, `The body is not JSON: ${error.message}`);
    throw error;
  }
}

function checkModel({ modelName }: Api, asked: string | undefined): void {
  if (asked === undefined || asked === modelName) return;
  throw new ApiError(404, `There is no model '${asked}' here; there is '${modelName}'.`, 'model', 'model_not_found');
}
