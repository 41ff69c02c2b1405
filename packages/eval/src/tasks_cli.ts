/** sb-eval --tasks: a checkpoint's scores on tasks. */
import { formatDuration, UserError, VERSION } from '@stickbreaking/base';
import {
  checkOutput,
  lockOrRefuse,
  printJson,
  progressLine,
  runCommand,
  stopOnSignals,
} from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { specialTokensFrom } from '@stickbreaking/data';
import { hashOfModel, type OpenedCheckpoint, openCheckpoint } from './checkpoint.js';
import { dataDirectory, resolvedTasks } from './evaluator.js';
import { checkMemory } from './memory.js';
import { writeReport } from './report/report.js';
import { type OutputPlaces, outputPlaces, writeResults } from './results/files.js';
import { evaluationBlocks } from './results/report_blocks.js';
import { groupOutcomes, type RunFacts, resultsJson } from './results/results.js';
import { resultsTable } from './results/table.js';
import { type Answers, answersInFile, answersInMemory, gatherAnswers } from './runner/answers.js';
import { builtTasks } from './runner/built_tasks.js';
import { type FoundData, findData, splitsOf } from './runner/data_sets.js';
import { gpusAsked, ownPart, type Part, partFile, runParts } from './runner/parts.js';
import { runTasks, type TaskOutcome } from './runner/run.js';
import { parseGenerationSettings, parseSamples } from './runner/settings.js';
import { putsBos, type TokenRules } from './runner/tokens.js';
import { suiteCommands, suiteFrom } from './suite_cli.js';
import { numFewshotOf } from './tasks/build.js';
import type { TaskDefinition } from './tasks/definition.js';
import type { ResolvedTasks } from './tasks/resolve.js';
import type { GenerationSettings } from './tasks/task.js';
import { type TaskArguments as Arguments, checkTaskArguments, taskOptions } from './tasks_options.js';

/** Whether the arguments ask for tasks rather than for perplexity by length. */
export function asksForTasks(argv: readonly string[]): boolean {
  return argv.some((one) => one === '--tasks' || one.startsWith('--tasks='));
}

export function main(argv: string[]): Promise<number> {
  // Not a task by the name of --help.
  if (argv.join(' ') === '--tasks --help') return main(['--help']);
  return runCommand<Arguments>(
    argv,
    (parser) => taskOptions(parser) as never,
    (args) => evaluate(args, argv),
    suiteCommands,
  );
}

async function evaluate(args: Arguments, argv: readonly string[]): Promise<number> {
  checkTaskArguments(args);
  const resolved = resolvedTasks(suiteFrom(args), args.tasks, args.includePath === undefined ? [] : [args.includePath]);
  const settings = args.genKwargs === undefined ? undefined : parseGenerationSettings(args.genKwargs);
  const samples = args.samples === undefined ? undefined : parseSamples(args.samples, resolved.tasks);
  const places = args.output === undefined ? undefined : outputPlaces(args.output, args.checkpoint);
  if (args.report !== undefined) checkOutput(args.report);
  const directory = dataDirectory(args.dataDir, resolved);
  const shots = (task: TaskDefinition) => numFewshotOf(task, args.numFewshot);
  const data = findData(directory, splitsOf(resolved.tasks, shots));
  const part = ownPart();
  const processes = part?.count ?? (args.gpus === undefined ? args.processes : await gpusAsked(args.gpus));
  if (processes > 1 && !places) {
    throw new UserError('Several processes need --output, where they put their answers together.');
  }
  // A part works under the lock of the process that started it.
  const unlock = places && !part ? lockOrRefuse(places.lock, 'evaluates') : () => {};
  try {
    const parts = places ? Array.from({ length: processes }, (_, index) => partFile(places.answers, index)) : [];
    if (processes > 1 && !part) {
      const stop = stopOnSignals();
      try {
        const code = await runParts(processes, argv, stop.signal);
        if (code !== 0) return stop.exitCode || code;
      } finally {
        stop.release();
      }
    }
    return await evaluateHere(args, { resolved, settings, samples, places, directory, data, part, parts });
  } finally {
    unlock();
  }
}

/** What was found out before the model is opened. */
interface Prepared {
  resolved: ResolvedTasks;
  settings: Partial<GenerationSettings> | undefined;
  samples: ReadonlyMap<string, readonly number[]> | undefined;
  places: OutputPlaces | undefined;
  /** Of all data sets. */
  directory: string;
  data: FoundData;
  part: Part | undefined;
  /** Files of the answers of all parts. */
  parts: readonly string[];
}

async function evaluateHere(
  args: Arguments,
  { resolved, settings, samples, places, directory, data, part, parts }: Prepared,
): Promise<number> {
  const backend = await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  const rules = rulesOf(args, opened);
  const date = new Date();
  const started = performance.now();
  const progress = progressLine();
  const { numFewshot, limit, fewshotSeed: seed } = args;
  const tasks = await builtTasks(resolved.tasks, {
    ...{ data, directory, tokenizer: opened.tokenizer, numFewshot, limit, seed, settings, samples },
    onTask: (name) => progress.show(`building ${name}`),
  });
  const answers = answersOf(places, modelKey(opened, rules), parts, part);
  const stop = stopOnSignals();
  let outcomes: TaskOutcome[];
  try {
    outcomes = await runTasks(tasks, opened, {
      rules,
      answers,
      batchTokens: args.batchTokens,
      seed: args.seed,
      strictLength: args.strictLength,
      checkTokens: (tokens) => checkMemory(opened.model.config, backend.name, tokens, together(tokens)),
      signal: stop.signal,
      part,
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
  if (part) return 0;
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
  if (args.report !== undefined) {
    const title = `${args.tasks.replaceAll(/[\s,]+/g, ', ')} of ${args.checkpoint}`;
    await writeReport(args.report, { title, blocks: evaluationBlocks(outcomes, groups, facts) });
  }
  if (places) writeResults(places, results, args.logSamples ? outcomes : [], date);
  if (args.json) printJson(results);
  else process.stdout.write(report(args, outcomes, resultsTable(outcomes, groups), rules, places));
  return 0;
}

/** Of what may need more memory than there is. */
const together = (tokens: number) => ({
  what: `A batch of ${tokens} tokens`,
  advice: 'take a smaller --batch-tokens, or contexts cut by --max-length',
});

/** Where answers are kept: of a part in its own file; else in the one, to which those of parts are added. */
function answersOf(
  places: OutputPlaces | undefined,
  model: string,
  parts: readonly string[],
  part: Part | undefined,
): Answers {
  if (!places) return answersInMemory();
  if (part)
    return answersInFile(parts[part.index]!, model, [places.answers, ...parts.filter((_, i) => i !== part.index)]);
  const answers = answersInFile(places.answers, model, parts);
  gatherAnswers(answers, parts);
  return answers;
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
function modelKey(opened: OpenedCheckpoint, { bos }: TokenRules): string {
  return hashOfModel(opened).update(` ${bos}`).digest('hex');
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
