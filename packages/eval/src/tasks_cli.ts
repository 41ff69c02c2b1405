/** sb-eval --tasks: a checkpoint's scores on tasks. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { formatDuration, UserError, VERSION } from '@stickbreaking/base';
import { progressLine, runCommand, stopOnSignals } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { type SpecialTokenArguments, specialTokenOptions, specialTokensFrom } from '@stickbreaking/data';
import { type OpenedCheckpoint, openCheckpoint, verifyOption } from './checkpoint.js';
import { type OutputPlaces, outputPlaces, writeResults } from './results/files.js';
import { groupOutcomes, type RunFacts, resultsJson } from './results/results.js';
import { resultsTable } from './results/table.js';
import { answersInFile, answersInMemory } from './runner/answers.js';
import { findData, splitsOf } from './runner/data_sets.js';
import { runTasks, type TaskOutcome } from './runner/run.js';
import { parseGenerationSettings, parseSamples } from './runner/settings.js';
import { type BosRule, putsBos, type TokenRules } from './runner/tokens.js';
import { BATCH_TOKENS } from './scoring.js';
import { listMain, type SuiteArguments, scoreMain, suiteFrom, suiteOptions } from './suite_cli.js';
import { type BuiltTask, buildTask, numFewshotOf } from './tasks/build.js';
import type { TaskDefinition } from './tasks/definition.js';
import { resolveTasks } from './tasks/resolve.js';

interface Arguments extends SuiteArguments, SpecialTokenArguments {
  checkpoint: string;
  tasks: string;
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
}

/** Whether the arguments ask for tasks rather than for perplexity by length. */
export function asksForTasks(argv: readonly string[]): boolean {
  return (
    argv[0] === 'tasks' || argv[0] === 'score' || argv.some((one) => one === '--tasks' || one.startsWith('--tasks='))
  );
}

export function main(argv: string[]): Promise<number> {
  if (argv[0] === 'tasks') return listMain(argv.slice(1));
  if (argv[0] === 'score') return scoreMain(argv);
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-eval')
        .usage('$0 --checkpoint DIR --tasks arc_easy,mmlu --data-dir DIR\n\nScores of a checkpoint on tasks.')
        .option('checkpoint', { type: 'string', demandOption: true, describe: 'checkpoint or run directory' })
        .option('tasks', {
          type: 'string',
          demandOption: true,
          describe: 'tasks, groups and globs; `sb-eval tasks` lists them',
        })
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
        .option('json', {
          type: 'boolean',
          default: false,
          describe: 'print the results as JSON and nothing else',
        }) as never,
    evaluate,
  );
}

async function evaluate(args: Arguments): Promise<number> {
  checkNumbers(args);
  const resolved = resolveTasks(suiteFrom(args), args.tasks);
  const settings = args.genKwargs === undefined ? undefined : parseGenerationSettings(args.genKwargs);
  const samples = args.samples === undefined ? undefined : parseSamples(args.samples, resolved.tasks);
  const places = args.output === undefined ? undefined : outputPlaces(args.output, args.checkpoint);
  const directory = args.dataDir ?? process.env.STICKBREAKING_DATA;
  if (directory === undefined) throw new UserError('Missing --data-dir, the folder of the data sets (see --help).');
  const shots = (task: TaskDefinition) => numFewshotOf(task, args.numFewshot);
  const data = findData(directory, splitsOf(resolved.tasks, shots));
  const backend = await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  const rules = rulesOf(args, opened);
  const date = new Date();
  const started = performance.now();
  const progress = progressLine();
  const writing = {
    directory,
    count: async (text: string) => (await opened.tokenizer.encodeBatch([text]))[0]!.length,
    encodesBos: opened.tokenizer.addsBos,
  };
  const tasks: BuiltTask[] = [];
  for (const task of resolved.tasks) {
    progress.show(`building ${task.name}`);
    const documents = task.write ? await task.write(writing) : await data.rows(task, task.split);
    const from = task.shots?.from;
    const pool = typeof from === 'string' && shots(task) > 0 ? await data.rows(task, from) : [];
    const { numFewshot, limit, fewshotSeed: seed } = args;
    tasks.push(
      buildTask(task, { documents, pool }, { numFewshot, limit, samples: samples?.get(task.name), seed, settings }),
    );
  }
  const answers = places ? answersInFile(places.answers, modelKey(opened, rules)) : answersInMemory();
  const stop = stopOnSignals();
  let outcomes: TaskOutcome[];
  try {
    outcomes = await runTasks(tasks, opened, {
      rules,
      answers,
      batchTokens: args.batchTokens,
      seed: args.seed,
      strictLength: args.strictLength,
      signal: stop.signal,
      onProgress: timed((line) => progress.show(line)),
    });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    progress.clear();
    process.stderr.write(places ? `Stopped; the same command goes on from ${places.answers}.\n` : 'Stopped.\n');
    return stop.exitCode;
  } finally {
    stop.release();
    answers.close();
  }
  progress.clear();
  const facts: RunFacts = {
    ...args,
    settings,
    checkpoint: opened.directory,
    backend: backend.description,
    bos: { rule: args.bos, put: rules.bos, token: opened.tokenizer.bosToken },
    maxLength: rules.maxLength,
    date,
    seconds: (performance.now() - started) / 1000,
    data: data.files,
    tokenizer: opened.tokenizer,
    version: VERSION,
  };
  const groups = groupOutcomes(resolved, outcomes);
  const results = resultsJson(outcomes, groups, facts);
  if (places) writeResults(places, results, args.logSamples ? outcomes : [], date);
  if (args.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  else process.stdout.write(report(args, outcomes, resultsTable(outcomes, groups), rules, places));
  return 0;
}

function checkNumbers({ numFewshot, limit, batchTokens, maxLength }: Arguments): void {
  const expect = (fits: boolean, name: string, value: number | undefined, expected: string) => {
    if (!fits) throw new UserError(`--${name} is ${value}; expected ${expected}.`);
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
}

function rulesOf({ bos, harness, maxLength }: Arguments, { tokenizer, model }: OpenedCheckpoint): TokenRules {
  return {
    tokenizer,
    bos: putsBos(bos, harness, tokenizer),
    splitsPrefix: harness !== '0.4.4',
    maxLength: maxLength ?? model.config.contextLength,
  };
}

/** What answers hang on beside the request: the weights, the tokenizer. */
function modelKey({ directory, tokenizer }: OpenedCheckpoint, { bos }: TokenRules): string {
  const hash = createHash('sha256');
  const files = ['config.json', 'checksums.json'].map((name) => join(directory, name));
  for (const file of files) if (existsSync(file)) hash.update(readFileSync(file));
  const weights = join(directory, 'model.safetensors');
  if (!existsSync(files[1]!) && existsSync(weights)) {
    const { size, mtimeMs } = statSync(weights);
    hash.update(`${size} ${mtimeMs}`);
  }
  return hash.update(`${tokenizer.hash} ${tokenizer.beginId} ${bos}`).digest('hex');
}

/** A line of progress with the time that is left. */
function timed(show: (line: string) => void): (done: number, total: number, what: string) => void {
  let stage = { what: '', start: 0 };
  return (done, total, what) => {
    const now = performance.now();
    if (what !== stage.what) stage = { what, start: now };
    const left = done === 0 ? '' : `, ${formatDuration((((now - stage.start) / 1000) * (total - done)) / done)} left`;
    show(`${((100 * done) / total).toFixed(0)} % of ${total} ${what}${left}`);
  };
}

function report(
  args: Arguments,
  outcomes: readonly TaskOutcome[],
  table: string,
  rules: TokenRules,
  places: OutputPlaces | undefined,
): string {
  const said = [
    `checkpoint ${args.checkpoint}`,
    `lm-evaluation-harness ${args.harness}`,
    `gen_kwargs ${args.genKwargs ?? 'none'}`,
    `limit ${args.limit ?? 'none'}`,
    `num_fewshot ${args.numFewshot ?? 'default'}`,
    `beginning token ${rules.bos ? 'put' : 'not put'}`,
    `window ${rules.maxLength}`,
  ];
  const lines = [said.join(', '), '', table];
  if (args.limit !== undefined || args.samples !== undefined) {
    lines.push('', 'A part of the documents was scored: these figures are not comparable with published ones.');
  }
  for (const { task, cut, result } of outcomes) {
    if (cut > 0) lines.push(`${task.name}: ${cut} contexts were cut on the left to fit ${rules.maxLength} tokens.`);
    for (const [remark, count] of Object.entries(result.remarks ?? {}))
      lines.push(`${task.name}: ${count} answers ${remark}.`);
  }
  if (places) lines.push('', `written to ${places.folder}`);
  if (args.writeOut) lines.push('', ...outcomes.flatMap(firstPrompts));
  return `${lines.join('\n')}\n`;
}

function firstPrompts({ task, firstTokens }: TaskOutcome): string[] {
  const requests = task.examples.flatMap((one) => one.requests).slice(0, firstTokens.length);
  return requests.map((request, r) => {
    const text =
      'text' in request ? request.text : request.context + ('continuation' in request ? request.continuation : '');
    return `--- ${task.name}, request ${r}\n${text}\n--- tokens ${firstTokens[r]!.join(' ')}\n`;
  });
}
