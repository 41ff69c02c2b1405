// sb-tokenizer: train a tokenizer from text, or cut one down.
import { type Argv, checkOutput, jsonOption, printJson, runCommand } from '@stickbreaking/base/node';

import { dataDescription, type SourceArguments, sourceOptions, sourcesFrom } from './options.js';
import { shrinkTokenizer, trainTokenizer } from './train_tokenizer.js';

interface Arguments extends SourceArguments {
  _: (string | number)[];
  data: string[];
  vocabSize: number;
  output: string;
  specialToken: string[];
  maxBytes: number;
  input: string;
  json: boolean;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-tokenizer')
        .command('train', 'Train a byte-level BPE tokenizer.json on text', trainOptions)
        .command('shrink', 'Cut a BPE tokenizer.json down to its first merges', shrinkOptions) as never,
    (args) => (args._[0] === 'train' ? train(args) : shrink(args)),
  );
}

async function train(args: Arguments): Promise<void> {
  const { data, vocabSize, output, specialToken, maxBytes } = args;
  checkOutput(output);
  const { bytes } = await trainTokenizer({
    sources: await sourcesFrom(data, args),
    vocabSize,
    output,
    specialTokens: specialToken,
    maxBytes,
    limit: args.limit,
  });
  if (args.json) printJson({ output, vocabSize, bytes });
  else process.stdout.write(`${output}: ${vocabSize} tokens, learned from ${megabytes(bytes)} of text\n`);
}

async function shrink({ input, vocabSize, output, json }: Arguments): Promise<void> {
  checkOutput(output);
  await shrinkTokenizer(input, vocabSize, output);
  if (json) printJson({ output, vocabSize });
  else process.stdout.write(`${output}: ${vocabSize} tokens\n`);
}

const trainOptions = (command: Argv) =>
  command.options({
    data: {
      type: 'string',
      array: true,
      demandOption: true,
      describe: dataDescription,
    },
    ...sourceOptions,
    'vocab-size': { type: 'number', demandOption: true, describe: 'Tokens in all, bytes and special tokens included' },
    output: { type: 'string', default: 'tokenizer.json', describe: 'File to write' },
    'special-token': { type: 'string', array: true, default: ['<|endoftext|>'], describe: 'Special tokens, first ids' },
    'max-bytes': { type: 'number', default: 2 ** 30, describe: 'Bytes of text to learn from' },
    ...jsonOption,
  });

const shrinkOptions = (command: Argv) =>
  command.options({
    input: { type: 'string', demandOption: true, describe: 'tokenizer.json to cut down' },
    'vocab-size': { type: 'number', demandOption: true, describe: 'Tokens to keep' },
    output: { type: 'string', demandOption: true, describe: 'File to write' },
    ...jsonOption,
  });

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
