/** sb-chat: a conversation with a checkpoint in the terminal. */
import { createInterface } from 'node:readline';
import { EXIT, UserError } from '@stickbreaking/base';
import { runCommand } from '@stickbreaking/base/node';
import { type SamplingArguments, samplingFrom, samplingOptions } from '@stickbreaking/eval';
import { checkGenerateOptions, contextReach } from '@stickbreaking/model';
import type { ChatMessage } from './chat_template.js';
import { conversationIds } from './conversation.js';
import { Engine } from './engine.js';
import { type ModelArguments, openModel, openOptions } from './open_model.js';

interface Arguments extends ModelArguments, SamplingArguments {
  system: string | undefined;
  maxNewTokens: number;
  seed: number | undefined;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-chat')
        .usage(
          '$0 --checkpoint DIR\n\nA conversation with a model. /new begins another one, /quit or Ctrl-D ends; Ctrl-C stops an answer. Where no terminal is, each line of standard input is a turn.',
        )
        .options(openOptions)
        .options({
          system: { type: 'string', describe: 'what the model is told before the conversation' },
          'max-new-tokens': { type: 'number', default: 512, describe: 'of one answer' },
          ...samplingOptions,
          seed: { type: 'number', describe: 'the same one gives the same answers; default: another each time' },
        }) as never,
    chat,
  );
}

async function chat(args: Arguments): Promise<number> {
  const { maxNewTokens } = args;
  const sampling = { ...samplingFrom(args), maxNewTokens };
  let seed = args.seed ?? Math.floor(Math.random() * 2 ** 31);
  checkGenerateOptions({ ...sampling, seed });
  const { model, tokenizer, template, directory, backend } = await openModel(args);
  const engine = new Engine(model, tokenizer, { batchSize: 1 });
  const terminal = process.stdin.isTTY && process.stdout.isTTY;
  if (terminal) {
    process.stderr.write(
      `${directory} (${backend})\n${template.source}\n/new begins another conversation, /quit ends\n`,
    );
  }
  const first: ChatMessage[] = args.system === undefined ? [] : [{ role: 'system', content: args.system }];
  let messages = [...first];
  const reach = contextReach(model.config);
  let answering: AbortController | undefined;
  let interrupted = false;
  const lines = createInterface({ input: process.stdin, ...(terminal ? { output: process.stdout } : {}) });
  const interrupt = () => {
    if (answering) answering.abort();
    if (answering && terminal) return;
    interrupted = true;
    lines.close();
  };
  lines.on('SIGINT', interrupt);
  process.on('SIGINT', interrupt);
  try {
    lines.setPrompt('> ');
    if (terminal) lines.prompt();
    for await (const line of lines) {
      const said = line.trim();
      if (said === '/quit' || said === '/exit') break;
      if (said === '/new') messages = [...first];
      else if (said !== '') {
        messages.push({ role: 'user', content: line });
        const prompt = conversationIds(tokenizer, template, messages);
        if (reach !== undefined && prompt.length + maxNewTokens > reach) {
          process.stderr.write(
            `The conversation has ${prompt.length} tokens; its answer may reach past the ${reach} positions that this model was trained for. /new begins another.\n`,
          );
        }
        answering = new AbortController();
        let begun = false;
        const { text } = await engine.complete({
          ...{ ...sampling, seed: seed++, prompt, keep: true },
          ...{ stopTexts: template.stopTexts, signal: answering.signal },
          onText(piece) {
            const shown = begun ? piece : piece.trimStart();
            begun ||= shown !== '';
            process.stdout.write(shown);
          },
        });
        answering = undefined;
        process.stdout.write('\n');
        messages.push({ role: 'assistant', content: text.trim() });
      }
      if (interrupted) break;
      if (terminal) lines.prompt();
    }
    return interrupted ? 130 : EXIT.done;
  } catch (error) {
    throw error instanceof UserError || !interrupted ? error : new UserError('The conversation was interrupted.');
  } finally {
    process.off('SIGINT', interrupt);
    lines.close();
    engine.dispose();
  }
}
