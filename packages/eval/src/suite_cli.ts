/** sb-eval tasks and sb-eval score: what the suite has, and saved answers scored again. */
import { alignColumns, shown, UserError } from '@stickbreaking/base';
import { runCommand } from '@stickbreaking/base/node';
import { readSamples, scoreSamples } from './results/samples.js';
import { metricsOf, summarise } from './tasks/scores.js';
import { type Harness, harnesses, type Suite, suiteOf } from './tasks/suite/index.js';

/** Which suite a command speaks of. */
export interface SuiteArguments {
  harness: Harness;
  mathEqualStrings: boolean;
}

/** The options of `SuiteArguments`. */
export const suiteOptions = {
  harness: {
    choices: harnesses,
    default: '0.4.4' as const,
    describe: 'release of lm-evaluation-harness that is imitated, where two differ',
  },
  'math-equal-strings': {
    type: 'boolean',
    default: false,
    describe: 'MATH: answers that are the same text are right, also where they cannot be read',
  },
} as const;

export const suiteFrom = ({ harness, mathEqualStrings }: SuiteArguments): Suite =>
  suiteOf({ harness, equalStrings: mathEqualStrings });

/** sb-eval tasks */
export function listMain(argv: string[]): Promise<number> {
  return runCommand<SuiteArguments>(
    argv,
    (parser) =>
      parser.scriptName('sb-eval tasks').usage('$0\n\nLists tasks and groups.').options(suiteOptions) as never,
    async (args) => {
      const { tasks, groups } = suiteFrom(args);
      const rows = [...tasks.values()].map((task) => [
        task.name,
        `${task.version}`,
        `${task.shots?.count ?? 0}`,
        metricsOf(task)
          .map(({ name }) => name)
          .join(', '),
        `${task.dataset.path}${task.dataset.name === undefined ? '' : ` (${task.dataset.name})`} ${task.split}`,
      ]);
      const names = [...groups.values()].map(({ name, members }) => `${name}: ${members.join(', ')}`);
      process.stdout.write(
        `${alignColumns([['task', 'version', 'n-shot', 'metrics', 'data'], ...rows])}\n\nGroups\n${names.join('\n')}\n`,
      );
    },
  );
}

/** sb-eval score */
export function scoreMain(argv: string[]): Promise<number> {
  return runCommand<SuiteArguments & { files: string[]; json: boolean }>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-eval')
        .command('score <files..>', 'Scores saved answers again, without a model.', (command) =>
          command.positional('files', {
            type: 'string',
            array: true,
            default: [],
            describe: 'samples_<task>_<time>.jsonl, …',
          }),
        )
        .demandCommand(1, 'Name a command: score.')
        .options(suiteOptions)
        .option('json', { type: 'boolean', default: false, describe: 'print JSON and nothing else' }) as never,
    async (args) => {
      const { tasks } = suiteFrom(args);
      const definitionOf = (name: string) => {
        const found = tasks.get(name);
        if (!found) throw new UserError(`there is no task '${shown(name)}' to score; \`sb-eval tasks\` lists them.`);
        return found;
      };
      const results = args.files.map((path) => {
        const samples = readSamples(path, definitionOf);
        const definition = definitionOf(samples.task);
        return { task: samples.task, ...summarise(definition, scoreSamples(definition, samples)) };
      });
      const rows = results.flatMap(({ task, figures, documents }) =>
        figures.map(({ metric, filter, value, standardError }) => [
          task,
          `${documents}`,
          filter,
          metric,
          value.toFixed(4),
          standardError === undefined ? 'N/A' : standardError.toFixed(4),
        ]),
      );
      const table = alignColumns([['task', 'documents', 'filter', 'metric', 'value', 'stderr'], ...rows]);
      process.stdout.write(args.json ? `${JSON.stringify(results, null, 2)}\n` : `${table}\n`);
    },
  );
}
