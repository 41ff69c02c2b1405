/** The options of sb-eval --tasks. */
import { EXIT, OptionError, UserError } from '@stickbreaking/base';
import { type Argv, checkProcesses } from '@stickbreaking/base/node';
import { type SpecialTokenArguments, specialTokenOptions } from '@stickbreaking/data';
import { verifyOption } from './checkpoint.js';
import type { BosRule } from './runner/tokens.js';
import { BATCH_TOKENS } from './scoring.js';
import { includePathOption, type SuiteArguments, suiteOptions } from './suite_cli.js';

export interface TaskArguments extends SuiteArguments, SpecialTokenArguments {
  checkpoint: string;
  tasks: string;
  includePath: string | undefined;
  dataDir: string | undefined;
  numFewshot: number | undefined;
  limit: number | undefined;
  samples: string | undefined;
  seed: number;
  fewshotSeed: number;
  genKwargs: string | undefined;
  batchTokens: number;
  maxLength: number | undefined;
  strictLength: boolean;
  bos: BosRule;
  output: string | undefined;
  logSamples: boolean;
  writeOut: boolean;
  tokenizer: string | undefined;
  verify: boolean;
  backend: string;
  json: boolean;
  processes: number;
  gpus: string | undefined;
  report: string | undefined;
}

export function taskOptions(parser: Argv) {
  return parser
    .scriptName('sb-eval')
    .usage('$0 --checkpoint DIR --tasks arc_easy,mmlu --data-dir DIR\n\nScores of a checkpoint on tasks.')
    .option('checkpoint', {
      type: 'string',
      demandOption: true,
      describe: 'checkpoint, run directory (its latest), RUN/best or hf://org/name[@revision]',
    })
    .option('tasks', {
      type: 'string',
      demandOption: true,
      describe: 'tasks, groups, globs and task files (.yaml); `sb-eval tasks` lists them',
    })
    .options(includePathOption)
    .option('data-dir', {
      type: 'string',
      describe: 'folder of data sets, as <owner>/<name>/<config>/<split>-*.parquet',
    })
    .option('num-fewshot', {
      type: 'number',
      alias: 'num_fewshot',
      describe: 'examples before each question; default: the task’s own',
    })
    .option('limit', {
      type: 'number',
      describe: 'only the first documents of each task: a number, or a share below 1',
    })
    .option('samples', { type: 'string', describe: 'only these documents: {"arc_easy":[0,5]}, or a file of it' })
    .option('seed', { type: 'number', default: 0, describe: 'of generation that draws' })
    .option('fewshot-seed', { type: 'number', default: 1234, describe: 'of the choice of examples' })
    .option('gen-kwargs', {
      type: 'string',
      alias: 'gen_kwargs',
      describe: 'max_gen_toks=64,temperature=0.7,…; or as JSON',
    })
    .option('batch-tokens', {
      type: 'number',
      default: BATCH_TOKENS,
      describe: 'tokens that run through the model together',
    })
    .option('max-length', {
      type: 'number',
      describe: 'tokens of context at most; default: the model’s contextLength',
    })
    .option('strict-length', {
      type: 'boolean',
      default: false,
      describe: 'refuse contexts that do not fit instead of cutting them on the left',
    })
    .option('bos', {
      choices: ['auto', 'never', 'always'] as const,
      default: 'auto' as const,
      describe: 'a beginning token before contexts: as the harness does, never, or always',
    })
    .options(suiteOptions)
    .option('output', {
      type: 'string',
      alias: 'output_path',
      describe: 'folder for results and answers, or a .json file; a killed evaluation goes on from there',
    })
    .option('log-samples', {
      type: 'boolean',
      default: false,
      alias: 'log_samples',
      describe: 'write every document with its answers too',
    })
    .option('write-out', {
      type: 'boolean',
      default: false,
      alias: 'write_out',
      describe: 'print the first prompts of each task with their tokens',
    })
    .option('tokenizer', { type: 'string', describe: 'tokenizer.json; default: the checkpoint’s own' })
    .options(specialTokenOptions)
    .options(verifyOption)
    .option('backend', { type: 'string', default: 'auto', describe: 'auto, native, cpu, …' })
    .option('processes', {
      type: 'number',
      default: 1,
      describe: 'share the work among so many processes on the CPU; needs --output',
    })
    .option('gpus', {
      type: 'string',
      describe: 'share the work among so many GPUs of this machine, or all, a process each; needs --output',
    })
    .option('report', { type: 'string', describe: 'write scores, intervals and documents as an HTML file' })
    .option('json', {
      type: 'boolean',
      default: false,
      describe: 'print the results as JSON and nothing else',
    });
}

/** @throws UserError that names the first option with an impossible number */
export function checkTaskArguments(args: TaskArguments): void {
  const { numFewshot, limit, batchTokens, maxLength, processes, gpus, seed, fewshotSeed } = args;
  const expect = (fits: boolean, name: string, value: number | undefined, expected: string) => {
    if (!fits) throw new OptionError(`--${name}`, value, expected);
  };
  const isWhole = (value: number | undefined, least: number) =>
    value === undefined || (Number.isSafeInteger(value) && value >= least);
  expect(isWhole(numFewshot, 0), 'num-fewshot', numFewshot, 'a whole number');
  expect(
    limit === undefined || (limit > 0 && (limit < 1 || Number.isInteger(limit))),
    'limit',
    limit,
    'a whole number above 0, or a share below 1',
  );
  expect(isWhole(batchTokens, 1), 'batch-tokens', batchTokens, 'a whole number above 0');
  expect(isWhole(maxLength, 1), 'max-length', maxLength, 'a whole number above 0');
  expect(isWhole(seed, 0), 'seed', seed, 'a whole number');
  expect(isWhole(fewshotSeed, 0), 'fewshot-seed', fewshotSeed, 'a whole number');
  checkProcesses('--processes', processes);
  if (processes > 1 && gpus !== undefined)
    throw new UserError('--processes and --gpus: give one of them.', { exitCode: EXIT.usage });
}
