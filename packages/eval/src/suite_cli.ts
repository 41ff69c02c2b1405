/** sb-eval tasks and sb-eval score: what the suite has, and saved answers scored again. */
import { alignColumns, OptionError, shown, UserError } from '@stickbreaking/base';
import { jsonOption, type OtherCommands, printJson, runCommand, withHeading } from '@stickbreaking/base/node';
import { compareMain } from './compare_cli.js';
import { parseLengths } from './lengths.js';
import { readSamples, scoreSamples } from './results/samples.js';
import { type RulerForm, rulerForms } from './ruler/context.js';
import type { TaskDefinition } from './tasks/definition.js';
import { metricsOf, summarise } from './tasks/scores.js';
import { type Harness, harnesses, type Suite, suiteOf } from './tasks/suite/index.js';
import { defaultRuler } from './tasks/suite/ruler.js';
import { withTaskFiles } from './tasks/yaml/load.js';

/** Which suite a command speaks of. */
export interface SuiteArguments {
  harness: Harness;
  mathEqualStrings: boolean;
  rulerForm: RulerForm;
  rulerLengths: string;
  rulerSamples: number;
}

/** RULER's texts are made before any is asked; so many of such length would take days. */
const [MOST_SAMPLES, LONGEST_TEXT] = [100_000, 2 ** 22];

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
  'ruler-form': {
    choices: rulerForms,
    default: defaultRuler.form,
    describe: 'RULER: whose texts, NVIDIA’s (of the paper’s time or its present ones) or lm-evaluation-harness’s',
  },
  'ruler-lengths': { type: 'string', default: '4096', describe: 'RULER: tokens of the texts, such as 4096..65536' },
  'ruler-samples': { type: 'number', default: defaultRuler.samples, describe: 'RULER: texts of each length' },
} as const;

/** More tasks than the suite's own. */
export const includePathOption = {
  'include-path': {
    type: 'string',
    alias: 'include_path',
    describe: 'folder of task files, whose tasks go before ours of the same name',
  },
} as const;

interface ListArguments extends SuiteArguments {
  includePath: string | undefined;
  json: boolean;
}

const withIncluded = (args: ListArguments): Suite =>
  args.includePath === undefined ? suiteFrom(args) : withTaskFiles(suiteFrom(args), [args.includePath]);

export const suiteFrom = (args: SuiteArguments): Suite => {
  const { harness, mathEqualStrings, rulerForm, rulerLengths, rulerSamples } = args;
  if (!(Number.isInteger(rulerSamples) && rulerSamples > 0 && rulerSamples <= MOST_SAMPLES)) {
    throw new OptionError('--ruler-samples', rulerSamples, `a whole number from 1 to ${MOST_SAMPLES}`);
  }
  const lengths = parseLengths(rulerLengths, '--ruler-lengths', LONGEST_TEXT);
  const ruler = { form: rulerForm, lengths, samples: rulerSamples };
  return suiteOf({ harness, equalStrings: mathEqualStrings, ruler });
};

/** sb-eval tasks */
function listMain(argv: string[]): Promise<number> {
  return runCommand<ListArguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-eval tasks')
        .usage('$0\n\nLists tasks and groups.')
        .options(suiteOptions)
        .options(includePathOption)
        .options(jsonOption) as never,
    async (args) => {
      const { tasks, groups } = withIncluded(args);
      if (args.json) {
        printJson({ tasks: [...tasks.values()].map(described), groups: [...groups.values()] });
        return;
      }
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
        `${withHeading(alignColumns([['task', 'version', 'n-shot', 'metrics', 'data'], ...rows]))}\n\nGroups\n${names.join('\n')}\n`,
      );
    },
  );
}

/** A task as `sb-eval tasks --json` lists it. */
function described(task: TaskDefinition) {
  const { name, version, shots, dataset, split } = task;
  const metrics = metricsOf(task).map((metric) => metric.name);
  return { name, version, numFewshot: shots?.count ?? 0, metrics, dataset, split };
}

/** sb-eval score */
function scoreMain(argv: string[]): Promise<number> {
  return runCommand<ListArguments & { files: string[] }>(
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
        .options(suiteOptions)
        .options(includePathOption)
        .options(jsonOption) as never,
    async (args) => {
      const { tasks } = withIncluded(args);
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
      if (args.json) {
        printJson(results);
        return;
      }
      const table = alignColumns([['task', 'documents', 'filter', 'metric', 'value', 'stderr'], ...rows]);
      process.stdout.write(`${withHeading(table)}\n`);
    },
  );
}

/** What sb-eval has beside evaluating a checkpoint. */
export const suiteCommands: OtherCommands = {
  tasks: listMain,
  score: (argv) => scoreMain(['score', ...argv]),
  compare: (argv) => compareMain(['compare', ...argv]),
};
