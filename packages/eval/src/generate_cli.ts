/** sb-generate: a checkpoint continues a prompt, printed as it is generated, or a file of prompts, many at once. */
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import { EXIT, OptionError, UserError } from '@stickbreaking/base';
import { AppendFile, checkOutput, makeDirectory, printJson, runCommand, stopOnSignals } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { specialTokenOptions, specialTokensFrom } from '@stickbreaking/data';
import { checkGenerateOptions, contextReach, type GenerateOptions } from '@stickbreaking/model';
import { openCheckpoint, verifyOption } from './checkpoint.js';
import { type GenerateArguments, generateOptions, samplingFrom } from './generation/options.js';
import { type Finished, type Prompt, readFinished, readPrompts } from './generation/prompts.js';
import { type RunTotals, runPrompts, withoutFinished } from './generation/run_prompts.js';
import { checkSettings, type Settings, settingsOf } from './generation/settings.js';

export function main(argv: string[]): Promise<number> {
  return runCommand<GenerateArguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-generate')
        .usage(
          '$0 --checkpoint DIR --prompt "…"\n$0 --checkpoint DIR --prompts FILE --output FILE\n\nContinues a prompt, or each of a file’s, with a trained model. Without either, the prompt is read from standard input.',
        )
        .options(generateOptions)
        .options(specialTokenOptions)
        .options(verifyOption) as never,
    generate,
  );
}

async function generate(args: GenerateArguments): Promise<number> {
  const { maxNewTokens, seed, logprobs } = args;
  const options: GenerateOptions = {
    ...{ ...samplingFrom(args), maxNewTokens, seed },
    ...(logprobs === undefined ? {} : { logProbabilities: logprobs }),
  };
  checkGenerateOptions(options);
  checkArguments(args);
  const finished = args.output === undefined ? new Map<number, Finished>() : readFinished(args.output);
  const typed = args.prompts === undefined && args.prompt === undefined ? await promptFromInput() : args.prompt;
  await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  const settings = { ...options, stopTexts: args.stop, batchSize: args.batch };
  const tellReach = reachNotice(opened.model.config, args.maxNewTokens);
  const tellEmpty = once(() =>
    process.stderr.write(
      `The prompt is empty: the text begins from the token that opens a document (${opened.tokenizer.beginId}) alone.\n`,
    ),
  );
  const told = async function* (prompts: AsyncIterable<Prompt>) {
    for await (const prompt of prompts) {
      tellReach(opened.tokenizer.encode(prompt.prompt).length + 1);
      if (prompt.prompt === '') tellEmpty();
      yield prompt;
    }
  };
  if (args.prompts !== undefined) {
    const made = settingsOf(args, opened);
    checkSettings(finished, made, args.output ?? '');
    const prompts = withoutFinished(readPrompts(args.prompts), finished, args.output ?? '');
    return continueFile(args, made, (signal, onRecord) =>
      runPrompts(opened, told(prompts), { ...settings, echo: args.echo ?? false, signal, onRecord }),
    );
  }
  const prompt = { index: 0, prompt: typed!, seed };
  const json = args.json || logprobs !== undefined;
  const echo = args.echo ?? !json;
  return stoppedBySigint((signal) => {
    const begin = once(() => {
      if (echo) process.stdout.write(prompt.prompt);
    });
    const write = (piece: string) => {
      begin();
      process.stdout.write(piece);
    };
    return runPrompts(opened, told(only(prompt)), {
      ...{ ...settings, echo, signal, batchSize: 1 },
      ...(json ? {} : { onText: write }),
      onRecord: (record) => (json ? void process.stdout.write(`${JSON.stringify(record)}\n`) : write('\n')),
    });
  });
}

function checkArguments({ prompt, prompts, output, batch }: GenerateArguments): void {
  if (prompt !== undefined && prompts !== undefined) {
    throw new UserError('Both --prompt and --prompts are given; expected one of them.', { exitCode: EXIT.usage });
  }
  if (output !== undefined && prompts === undefined) {
    throw new UserError('--output is for the continuations of --prompts FILE.', { exitCode: EXIT.usage });
  }
  if (!Number.isInteger(batch) || batch < 1) {
    throw new OptionError('--batch', batch, 'a positive whole number');
  }
  if (output !== undefined) checkOutput(output);
}

/** What is piped in, without the line's end that most programs put there. */
async function promptFromInput(): Promise<string> {
  if (process.stdin.isTTY) {
    throw new UserError('There is no prompt: name one with --prompt, a file of them with --prompts, or pipe one in.', {
      exitCode: EXIT.usage,
    });
  }
  const prompt = (await text(process.stdin)).replace(/\r?\n$/, '');
  if (prompt === '') throw new UserError('The prompt on standard input is empty; expected a text to continue.');
  return prompt;
}

async function* only(prompt: Prompt): AsyncGenerator<Prompt> {
  yield prompt;
}

/** Does it the first time. */
function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (!done) act();
    done = true;
  };
}

/** Says once where positions come that the model has not been trained for. */
function reachNotice(config: Parameters<typeof contextReach>[0], maxNewTokens: number): (tokens: number) => void {
  const reach = contextReach(config);
  let told = false;
  return (tokens) => {
    if (told || reach === undefined || tokens + maxNewTokens <= reach) return;
    told = true;
    process.stderr.write(
      `A prompt of ${tokens} tokens and up to ${maxNewTokens} more reach past the ${reach} positions that this model was trained for; beyond them its position embedding knows nothing.\n`,
    );
  };
}

/** Ctrl-C ends the text where it is. */
async function stoppedBySigint(run: (signal: AbortSignal) => Promise<RunTotals>): Promise<number> {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGINT', stop);
  try {
    const totals = await run(controller.signal);
    if (controller.signal.aborted) process.stdout.write('\n');
    if (process.stderr.isTTY) tellRate(totals);
    return controller.signal.aborted ? 130 : EXIT.done;
  } finally {
    process.off('SIGINT', stop);
  }
}

/** Writes each continuation as it ends: to the output file, which a second run goes on with, or to standard output. */
async function continueFile(
  { output, json }: GenerateArguments,
  settings: Settings,
  run: (signal: AbortSignal, onRecord: (record: object) => void) => Promise<RunTotals>,
): Promise<number> {
  if (output === undefined) {
    return stoppedBySigint((signal) => run(signal, (record) => process.stdout.write(`${JSON.stringify(record)}\n`)));
  }
  const stop = stopOnSignals();
  makeDirectory(dirname(output));
  const file = new AppendFile(output);
  try {
    const write = (record: object) => file.append(`${JSON.stringify({ ...record, settings })}\n`);
    const totals = await run(stop.signal, write);
    if (json) printJson({ output, ...totals });
    tellRate(totals);
    return stop.exitCode;
  } finally {
    file.close();
    stop.release();
  }
}

function tellRate({ prompts, tokens, seconds }: RunTotals): void {
  const rate = seconds > 0 ? tokens / seconds : 0;
  const of = prompts === 1 ? '1 prompt' : `${prompts} prompts`;
  process.stderr.write(`${of}, ${tokens} tokens in ${seconds.toFixed(1)} s: ${rate.toFixed(1)} tokens/s\n`);
}
