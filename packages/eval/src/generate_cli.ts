/** sb-generate: a checkpoint continues a prompt, and the text is printed as it is generated. */
import { runCommand } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { type SpecialTokenArguments, specialTokenOptions, specialTokensFrom } from '@stickbreaking/data';
import { checkGenerateOptions } from '@stickbreaking/model';
import { openCheckpoint, verifyOption } from './checkpoint.js';
import { StopTexts } from './stop_texts.js';

interface Arguments extends SpecialTokenArguments {
  checkpoint: string;
  prompt: string;
  maxNewTokens: number;
  temperature: number;
  topK: number | undefined;
  topP: number;
  seed: number;
  stop: string[];
  tokenizer: string | undefined;
  verify: boolean;
  backend: string;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-generate')
        .usage('$0 --checkpoint DIR --prompt "…"\n\nContinues a prompt with a trained model.')
        .option('checkpoint', { type: 'string', demandOption: true, describe: 'checkpoint or run directory' })
        .option('prompt', { type: 'string', demandOption: true, describe: 'the text to continue' })
        .option('max-new-tokens', { type: 'number', default: 200 })
        .option('temperature', { type: 'number', default: 0.8, describe: '0 takes the most likely token' })
        .option('top-k', { type: 'number', describe: 'sample from this many most likely tokens' })
        .option('top-p', {
          type: 'number',
          default: 0.95,
          describe: 'sample from the most likely with this probability together',
        })
        .option('seed', { type: 'number', default: 0 })
        .option('stop', {
          type: 'string',
          array: true,
          default: [] as string[],
          describe: 'texts that end the continuation',
        })
        .option('tokenizer', { type: 'string', describe: 'tokenizer.json; default: the checkpoint’s own' })
        .options(specialTokenOptions)
        .options(verifyOption)
        .option('backend', { type: 'string', default: 'auto', describe: 'auto, native, cpu, …' }) as never,
    generate,
  );
}

async function generate(args: Arguments): Promise<void> {
  const { maxNewTokens, temperature, topK, topP, seed } = args;
  const options = { maxNewTokens, temperature, topP, seed, ...(topK === undefined ? {} : { topK }) };
  checkGenerateOptions(options);
  await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  const { tokenizer, model } = opened;
  // The prompt begins like a document in training.
  const prompt = tokenizer.encode(args.prompt);
  process.stdout.write(args.prompt);
  const decoder = tokenizer.streamDecoder(prompt);
  const ending = new StopTexts(args.stop);
  for await (const token of model.generate([tokenizer.beginId, ...prompt], {
    ...options,
    stop: [...tokenizer.stopIds],
  })) {
    process.stdout.write(ending.push(decoder.push(token)));
    if (ending.met) break;
  }
  process.stdout.write(`${ending.met ? '' : ending.push(decoder.end()) + ending.rest()}\n`);
}
