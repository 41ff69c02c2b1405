// sb-tokenizer: train a tokenizer from text, or cut one down.
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { UserError } from '@stickbreaking/base';
import yargs, { type Argv } from 'yargs';
import { formats } from './sources.js';
import { openTokenizer } from './tokenizer.js';
import { shrinkTokenizer, trainTokenizer } from './train_tokenizer.js';

/** Runs the command and returns its exit code: 0, or 1 after one line on stderr that says what is wrong. */
export async function main(argv: string[]): Promise<number> {
  try {
    await parser(argv).parseAsync();
    return 0;
  } catch (error) {
    if ((error as Error).name !== 'UserError') throw error;
    process.stderr.write(`sb-tokenizer: ${(error as Error).message}\n`);
    return 1;
  }
}

function parser(argv: string[]) {
  return yargs(argv)
    .scriptName('sb-tokenizer')
    .command('train', 'Train a byte-level BPE tokenizer.json on text', trainOptions, async (args) => {
      checkOutput(args.output);
      const { bytes } = await trainTokenizer({
        sources: [{ path: args.data, field: args.field, ...(args.format ? { format: args.format } : {}) }],
        vocabSize: args.vocabSize,
        output: args.output,
        specialTokens: args.specialToken,
        maxBytes: args.maxBytes,
      });
      process.stdout.write(`${args.output}: ${args.vocabSize} tokens, learned from ${megabytes(bytes)} of text\n`);
    })
    .command('shrink', 'Cut a BPE tokenizer.json down to its first merges', shrinkOptions, async (args) => {
      checkOutput(args.output);
      await shrinkTokenizer(args.input, args.vocabSize, args.output);
      process.stdout.write(`${args.output}: ${openTokenizer(args.output).vocabSize} tokens\n`);
    })
    .check(checkValues, true)
    .demandCommand(1, 'Name a command: train or shrink.')
    .strict()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new UserError(`${message.replaceAll('\n', ' ')} (sb-tokenizer --help shows the options)`);
    });
}

const trainOptions = (command: Argv) =>
  command.options({
    data: { type: 'string', array: true, demandOption: true, describe: 'Files, directories or globs of text' },
    field: { type: 'string', default: 'text', describe: 'Field of a record that holds the text' },
    format: { choices: formats, describe: 'Format of the files; default: what their endings say' },
    'vocab-size': { type: 'number', demandOption: true, describe: 'Tokens in all, bytes and special tokens included' },
    output: { type: 'string', default: 'tokenizer.json', describe: 'File to write' },
    'special-token': { type: 'string', array: true, default: ['<|endoftext|>'], describe: 'Special tokens, first ids' },
    'max-bytes': { type: 'number', default: 2 ** 30, describe: 'Bytes of text to learn from' },
  });

const shrinkOptions = (command: Argv) =>
  command.options({
    input: { type: 'string', demandOption: true, describe: 'tokenizer.json to cut down' },
    'vocab-size': { type: 'number', demandOption: true, describe: 'Tokens to keep' },
    output: { type: 'string', demandOption: true, describe: 'File to write' },
  });

/** yargs makes a list of an option that is given twice, and NaN of a word where a number belongs. */
function checkValues(args: Record<string, unknown>): true {
  for (const name of ['vocab-size', 'max-bytes', 'output', 'input', 'field', 'format']) {
    if (Array.isArray(args[name])) throw new UserError(`--${name} was given more than once; expected it once.`);
    if (Number.isNaN(args[name])) throw new UserError(`--${name} expects a number.`);
  }
  return true;
}

/** Checked before the work, which may take minutes. */
function checkOutput(output: string): void {
  const directory = dirname(output);
  if (statSync(output, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UserError(`cannot write ${output}: it is a directory; name a file.`);
  }
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UserError(`cannot write ${output}: there is no directory ${directory}.`);
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
