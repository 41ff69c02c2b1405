// What evaluation on tasks finds on the disk besides a task's own file: data sets as they are published, folders of task
// files and groups, and what an earlier evaluation left where this one writes.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { runOf, tasksOf } from '../fixtures.mjs';
import { oddText } from '../mutate.mjs';
import { expected, filesUnder, mutateAnyFile, mutatedBytes, mutatedTree, yamlText } from './shared.mjs';
import { figuresFault, modelArguments, mutatedLines } from './tasks.mjs';

const question = 'What is a stone made of?';
const lines = (rows) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const article = 'A stone lay in the river.';
const goal = { goal: 'Cool a stone', sol1: 'Use the river.', sol2: 'Use the candle.' };

/** A data set of the suite in a form that somebody publishes it in: its files by their paths. */
const published = {
  piqa: { 'piqa/valid.jsonl': lines([goal, goal]), 'piqa/valid-labels.lst': '0\n1\n' },
  mmlu_college_physics: {
    'mmlu/test/college_physics_test.csv': `${question},earth,water,"wax, or air",none,A\n"Why?",a,b,c,d,D\n`,
  },
  race: {
    'race/test/high/1.txt': JSON.stringify({
      article,
      questions: ['Where did it lie?'],
      options: [['Here', 'In a river', 'On earth', 'In wax']],
      answers: ['B'],
    }),
  },
  wikitext: { 'wikitext_document_level/wiki.test.raw': ` = Stone = \n\n It lay in the <unk> river . \n` },
  hellaswag: {
    'hellaswag/hellaswag_val.jsonl': lines([
      {
        ...{ ind: 1, activity_label: 'Swimming', ctx_a: 'A man swims.', ctx_b: 'he', ctx: 'A man swims. he' },
        ...{ endings: ['drowns', 'dries', 'sings', 'waits'], label: 2, split_type: 'indomain', source_id: 'a' },
      },
    ]),
  },
  gsm8k: { 'gsm8k/data/test.jsonl': lines([{ question: 'What is 1 + 1?', answer: 'It is <<1+1=2>>2.\n#### 2' }]) },
};

/** Every file of the suite's small data set, where the folder is its own. */
function writeAll(folder, files) {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
}

/** What the command prints of a task's figures. */
const figuresOf = (stdout) => JSON.stringify(JSON.parse(stdout).results);

export const taskFolders = {
  /** A data set as its authors or the Hub publish it. */
  async 'task-data'({ base, folder, choose, mutations }) {
    const task = choose.pick(Object.keys(published));
    const data = join(folder, 'data');
    writeAll(data, published[task]);
    const file = join(data, choose.pick(Object.keys(published[task])));
    const text = readFileSync(file, 'utf8');
    const isLines = file.endsWith('.jsonl') && choose.below(2) === 0;
    writeFileSync(file, isLines ? mutatedLines(text, choose, mutations) : mutatedBytes(Buffer.from(text), mutations));
    const args = [...modelArguments(base), '--tasks', task, '--data-dir', data, '--num-fewshot', '0', '--json'];
    return { command: 'sb-eval', args: [...args, '--gen-kwargs', 'max_gen_toks=2'], accepted: figuresFault };
  },

  /** A folder of task files, one of which groups the others. */
  async 'task-group'({ base, folder, choose, mutations }) {
    const { choice, answer } = tasksOf(base);
    const files = {
      'choice.yaml': { include: 'common.txt', ...choice },
      'answer.yaml': answer,
      'group.yaml': {
        ...{ group: 'both', group_alias: 'Both', task: ['choice', 'answer'], metadata: { version: 1 } },
        aggregate_metric_list: [{ metric: 'acc', aggregation: 'mean', weight_by_size: true }],
      },
    };
    const changed = choose.pick(['group.yaml', 'group.yaml', 'choice.yaml', 'answer.yaml', 'common.txt']);
    const texts = Object.fromEntries(
      Object.entries({ ...files, 'common.txt': { tag: 'shared', target_delimiter: ' ' } }).map(([name, tree]) => {
        if (name !== changed) return [name, yamlText(tree)];
        const asTree = choose.below(3) > 0;
        return [
          name,
          (asTree ? yamlText(mutatedTree(tree, mutations)) : mutatedBytes(Buffer.from(yamlText(tree)), mutations)) ??
            '',
        ];
      }),
    );
    writeAll(join(folder, 'tasks'), texts);
    const named = choose.pick(['both', 'both', 'choice', 'shared', 'ch*', join(folder, 'tasks')]);
    const asked = choose.below(6) === 0 ? oddText(choose).replaceAll('\0', '') : named;
    const args = [...modelArguments(base), '--include-path', join(folder, 'tasks'), `--tasks=${asked}`, '--limit', '2'];
    return { command: 'sb-eval', args: [...args, '--json'], accepted: figuresFault };
  },

  /** A folder with what other evaluations left: results, samples, half an answer, a lock that nobody holds. */
  async 'task-output'(tools) {
    const { base, folder, choose, mutations, run } = tools;
    const output = join(folder, 'out');
    const args = [
      ...[...modelArguments(base), '--tasks', join(base, 'tasks/choice.yaml'), '--limit', '2'],
      ...['--output', output, '--log-samples', '--report', join(folder, 'report.html'), '--json'],
    ];
    const want = await expected('task-output', async () => figuresOf((await run('sb-eval', args)).stdout));
    tools.fresh();
    const first = await run('sb-eval', args);
    if (first.code !== 0) throw first.error ?? new Error(first.stderr);
    const files = filesUnder(output);
    const file = choose.pick(files);
    const isAnswers = /answers/.test(file);
    if (file.endsWith('.jsonl')) writeFileSync(file, mutatedLines(readFileSync(file, 'utf8'), choose, mutations));
    else mutateAnyFile(file, choose, mutations);
    if (choose.below(2) === 0)
      writeFileSync(join(dirname(file), '.lock'), choose.pick([oddText(choose), '{}', 'null']));
    const accepted = (ended) => {
      const fault = figuresFault(ended);
      // Answers carry no sums: one that reads as an answer is taken for it.
      if (fault || isAnswers) return fault;
      const now = figuresOf(ended.stdout);
      return now === want ? undefined : `figures ${now}, not ${want}`;
    };
    return { command: 'sb-eval', args, accepted };
  },

  /** A run that scores a task while it trains. */
  async evaluation({ base, folder, choose, mutations }) {
    const evaluation = {
      ...{ everySteps: 1, tasks: ['sciq'], dataDir: join(base, 'data'), limit: 2, numFewshot: 0 },
    };
    const { stages, ...run } = { ...runOf(base), output: join(folder, 'run') };
    const changed = mutatedTree({ evaluation }, mutations);
    const file = join(folder, 'run.yaml');
    writeFileSync(file, yamlText({ ...run, ...changed, stages: [{ ...stages[0], steps: 2 }] }));
    const metrics = () =>
      readFileSync(join(run.output, 'metrics.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    const plan = choose.below(4) === 0 ? ['--plan'] : [];
    const accepted = () => {
      if (plan.length > 0) return undefined;
      const found = metrics().flatMap((line) => Object.values(line));
      return found.some((value) => value === null) ? `metrics with null: ${JSON.stringify(metrics())}` : undefined;
    };
    return { command: 'sb-train', args: ['--config', file, ...plan], accepted };
  },
};
