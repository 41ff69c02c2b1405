/** sb-serve: a checkpoint behind an HTTP interface like OpenAI's. */
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { OptionError } from '@stickbreaking/base';
import { listen, runCommand, stopOnSignals } from '@stickbreaking/base/node';
import { createApi } from './api.js';
import { Engine } from './engine.js';
import { type ModelArguments, openModel, openOptions } from './open_model.js';

interface Arguments extends ModelArguments {
  port: number;
  host: string;
  modelName: string | undefined;
  batch: number;
  queue: number;
  maxTokens: number;
  maxPromptTokens: number;
  timeout: number;
  keepTokens: number;
  apiKey: string | undefined;
}

const KEY_VARIABLE = 'STICKBREAKING_API_KEY';

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-serve')
        .usage(
          '$0 --checkpoint DIR [--port N]\n\nServes a model over HTTP as OpenAI does: /v1/completions, /v1/chat/completions, /v1/models, and /health.',
        )
        .options(openOptions)
        .options({
          port: { type: 'number', default: 8000, describe: '0 takes a free one' },
          host: {
            type: 'string',
            default: '127.0.0.1',
            describe: 'the address to listen at; by default this machine’s alone',
          },
          'model-name': {
            type: 'string',
            describe: 'what clients call the model; default: the checkpoint as it is given',
          },
          batch: { type: 'number', default: 16, describe: 'continuations that run at once' },
          queue: { type: 'number', default: 64, describe: 'continuations that run or wait; more are refused (429)' },
          'max-tokens': { type: 'number', default: 4096, describe: 'that one continuation may have' },
          'max-prompt-tokens': { type: 'number', default: 65536, describe: 'that a prompt may have' },
          timeout: { type: 'number', default: 600, describe: 'seconds that a request may take' },
          'keep-tokens': {
            type: 'number',
            default: 16384,
            describe: 'of conversations that were answered, whose next turn then reads only what is new; 0: none',
          },
          'api-key': {
            type: 'string',
            describe: `asked of clients, if given; or in ${KEY_VARIABLE}, where nobody sees it`,
          },
        }) as never,
    serve,
  );
}

async function serve(args: Arguments): Promise<number> {
  checkArguments(args);
  const { model, tokenizer, template, directory, backend } = await openModel(args);
  const engine = new Engine(model, tokenizer, {
    ...{ batchSize: args.batch, queue: args.queue, keepTokens: args.keepTokens },
  });
  const modelName = args.modelName ?? args.checkpoint;
  const app = createApi({
    ...{ engine, template, modelName },
    created: Math.floor(statSync(join(resolve(directory), 'config.json')).mtimeMs / 1000),
    ...{ maxTokens: args.maxTokens, maxPromptTokens: args.maxPromptTokens, seconds: args.timeout },
    apiKey: args.apiKey ?? process.env[KEY_VARIABLE],
  });
  const server = createAdaptorServer({ fetch: app.fetch });
  const stop = stopOnSignals();
  try {
    const port = await listen(server, args.port, args.host);
    const host = isIP(args.host) === 6 ? `[${args.host}]` : args.host;
    process.stdout.write(`${modelName} at http://${host}:${port}/v1 (${backend}); Ctrl-C ends it\n`);
    process.stdout.write(`chat template: ${template.source}\n`);
    if (!stop.signal.aborted) await once(stop.signal, 'abort');
    return stop.exitCode;
  } finally {
    server.close();
    engine.dispose();
    if ('closeAllConnections' in server) server.closeAllConnections();
    stop.release();
  }
}

function checkArguments(args: Arguments): void {
  const check = (fits: boolean, name: string, value: number, expected: string) => {
    if (!fits) throw new OptionError(`--${name}`, value, expected);
  };
  const { port, batch, queue, maxTokens, maxPromptTokens, timeout, keepTokens } = args;
  const isCount = (value: number) => Number.isSafeInteger(value) && value > 0;
  check(Number.isInteger(port) && port >= 0 && port < 65536, 'port', port, '0 to 65535');
  check(isCount(batch), 'batch', batch, 'a positive whole number');
  check(isCount(queue) && queue >= batch, 'queue', queue, `a whole number from --batch (${batch})`);
  check(isCount(maxTokens), 'max-tokens', maxTokens, 'a positive whole number');
  check(isCount(maxPromptTokens), 'max-prompt-tokens', maxPromptTokens, 'a positive whole number');
  check(isCount(keepTokens) || keepTokens === 0, 'keep-tokens', keepTokens, 'a whole number from 0');
  check(timeout > 0 && timeout <= 2_000_000, 'timeout', timeout, 'seconds above 0 and up to 2,000,000');
}
