/** Tasks on which a model is scored more than once, as while it trains: their requests are built once. */
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import { type GroupOutcome, groupOutcomes } from './results/results.js';
import { answersInMemory } from './runner/answers.js';
import { builtTasks } from './runner/built_tasks.js';
import { findData, splitsOf } from './runner/data_sets.js';
import { type AskedModel, runTasks, type Share, type TaskOutcome } from './runner/run.js';
import { type BosRule, putsBos, type TokenRules } from './runner/tokens.js';
import { BATCH_TOKENS } from './scoring.js';
import { type BuildOptions, type BuiltTask, numFewshotOf } from './tasks/build.js';
import { type ResolvedTasks, resolveTasks } from './tasks/resolve.js';
import { type Suite, type SuiteOptions, suiteOf } from './tasks/suite/index.js';
import { withTaskFiles } from './tasks/yaml/load.js';

/** What a model is scored on, and how. */
export interface EvaluatorOptions extends Omit<BuildOptions, 'samples'>, Partial<SuiteOptions> {
  /** Names of tasks and groups, globs, and task files. */
  tasks: string | readonly string[];
  /** The folder of the data sets; default: what STICKBREAKING_DATA names. */
  dataDir?: string | undefined;
  tokenizer: Tokenizer;
  /** The most tokens of a model's input. */
  maxLength: number;
  bos?: BosRule;
  /** Tokens that run through the model together. */
  batchTokens?: number;
}

/** One figure of a task or of a group. */
export interface Score {
  task: string;
  metric: string;
  /** How the answer was taken out of what was generated; `none` where nothing is. */
  filter: string;
  value: number;
  /** null where none is known. */
  standardError: number | null;
}

/** Options of `Evaluator.evaluate` and `Evaluator.scores`. */
export interface ScoreOptions {
  signal?: AbortSignal | undefined;
  /** Other processes that score the same model, each a part of the requests. */
  share?: Share | undefined;
  /** Told how much of the work is done, of how much, and in which unit, such as `tokens scored`. */
  onProgress?: (done: number, total: number, what: string) => void;
}

/** Scores models on the same tasks. */
export class Evaluator {
  private constructor(
    private readonly resolved: ResolvedTasks,
    readonly tasks: readonly BuiltTask[],
    private readonly options: EvaluatorOptions,
    private readonly rules: TokenRules,
  ) {}

  /**
   * Finds the data and builds all requests.
   *
   * @throws UserError that names a task which there is not, or a file that is missing or not as expected
   */
  static async open(options: EvaluatorOptions): Promise<Evaluator> {
    const { tokenizer, maxLength, bos = 'auto', harness = '0.4.4' } = options;
    const resolved = resolvedTasks(suiteOf({ ...options, harness }), [options.tasks].flat().join());
    const directory = dataDirectory(options.dataDir, resolved);
    const shots = (task: ResolvedTasks['tasks'][number]) => numFewshotOf(task, options.numFewshot);
    const data = findData(directory, splitsOf(resolved.tasks, shots));
    const { numFewshot, limit, seed, settings } = options;
    const building = { data, directory, tokenizer, numFewshot, limit, seed, settings };
    const tasks = await builtTasks(resolved.tasks, building);
    const rules = { tokenizer, bos: putsBos(bos, harness, tokenizer), splitsPrefix: harness !== '0.4.4', maxLength };
    return new Evaluator(resolved, tasks, options, rules);
  }

  /** The outcome of every task, and of the groups that were named. */
  async evaluate(
    model: AskedModel['model'],
    { signal, share, onProgress }: ScoreOptions = {},
  ): Promise<{ outcomes: TaskOutcome[]; groups: GroupOutcome[] }> {
    const { tokenizer, batchTokens = BATCH_TOKENS } = this.options;
    const answers = answersInMemory();
    const asking = { rules: this.rules, answers, batchTokens, seed: 0 };
    const outcomes = await runTasks(
      this.tasks,
      { model, tokenizer },
      { ...asking, ...(signal ? { signal } : {}), ...(share ? { share } : {}), ...(onProgress ? { onProgress } : {}) },
    );
    return { outcomes, groups: groupOutcomes(this.resolved, outcomes) };
  }

  /** The figures alone, those of groups first. */
  async scores(model: AskedModel['model'], options: ScoreOptions = {}): Promise<Score[]> {
    const { outcomes, groups } = await this.evaluate(model, options);
    const named = [
      ...groups.map(({ group, result }) => ({ name: group.name, result })),
      ...outcomes.map(({ task, result }) => ({ name: task.name, result })),
    ];
    return named.flatMap(({ name, result }) =>
      result.figures.map(({ metric, filter, value, standardError = null }) => ({
        ...{ task: name, metric, filter, value, standardError },
      })),
    );
  }
}

/** @throws UserError where none is named and a task needs one */
export function dataDirectory(named: string | undefined, { tasks }: ResolvedTasks): string {
  const directory = named ?? process.env.STICKBREAKING_DATA;
  if (directory === undefined && !tasks.every(({ files }) => files)) {
    throw new UserError('No folder of data sets is named; --data-dir, or STICKBREAKING_DATA, says where it is.');
  }
  return directory ?? '.';
}

/** Names of tasks, groups and globs, of the suite or of task files; a path of a task file stands for what it defines. */
export function resolvedTasks(suite: Suite, given: string, includePath: readonly string[] = []): ResolvedTasks {
  const names = given.split(/[\s,]+/).filter((name) => name !== '');
  const isFile = (name: string) => /\.ya?ml$/.test(name);
  const known = withTaskFiles(suite, includePath);
  const named = names.map((name) => {
    if (!isFile(name)) return { name, files: [] };
    return { name: withTaskFiles(known, [name]).added.join(), files: [name] };
  });
  const whole = withTaskFiles(
    known,
    named.flatMap(({ files }) => files),
  );
  return resolveTasks(whole, named.map(({ name }) => name).join());
}
