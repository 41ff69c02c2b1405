/** The report of an evaluation: scores with intervals, beside published models', by subject and by length, and documents. */
import type { ReportBlock } from '../report/report.js';
import type { TaskOutcome } from '../runner/run.js';
import type { TaskFigure, TaskResult } from '../tasks/scores.js';
import { figureName, publishedModels } from './published_scores.js';
import type { GroupOutcome, RunFacts } from './results.js';
import { shownDocuments } from './shown_documents.js';
import { HALF_INTERVAL, lengthBlocks, subjectBlocks } from './subject_blocks.js';

/** Documents of each task that are shown whole; of many tasks one each. */
const SHOWN = 3;
const MANY = 12;

export function evaluationBlocks(
  outcomes: readonly TaskOutcome[],
  groups: readonly GroupOutcome[],
  facts: RunFacts,
): ReportBlock[] {
  const scores = scoresOf(outcomes, groups);
  return [
    {
      kind: 'facts',
      facts: [
        ['checkpoint', facts.checkpoint],
        ['imitated', `lm-evaluation-harness ${facts.harness}`],
        ['backend', facts.backend],
        [
          'beginning token',
          `${facts.bos.put ? 'put before contexts' : 'not put before contexts'} (--bos ${facts.bos.rule})`,
        ],
        ['window', `${facts.maxLength} tokens`],
        ['documents', facts.limit === undefined ? 'all' : `the first ${facts.limit} of each task: not comparable`],
        ['seconds', facts.seconds.toFixed(0)],
      ],
    },
    { kind: 'heading', text: 'Scores' },
    {
      kind: 'text',
      text: 'Shares in percent with 95 % intervals (1.96 standard errors).',
    },
    {
      kind: 'table',
      columns: ['task', 'examples', 'figure', 'score', 'documents'],
      rows: scores.map(({ name, shots, figure, documents }) => [
        ...[name, `${shots}`, figure.filter === 'none' ? figure.metric : `${figure.metric}, ${figure.filter}`],
        ...[shown(figure), documents],
      ]),
    },
    ...publishedBlocks(scores),
    ...subjectBlocks(outcomes),
    ...lengthBlocks(outcomes),
    { kind: 'heading', text: 'Documents' },
    ...outcomes.flatMap((one) => shownDocuments(one, outcomes.length > MANY ? 1 : SHOWN)),
  ];
}

interface Score {
  name: string;
  /** Examples before each question. */
  shots: number;
  documents: number;
  figure: TaskFigure;
}

/** Of groups, then of tasks. */
function scoresOf(outcomes: readonly TaskOutcome[], groups: readonly GroupOutcome[]): Score[] {
  const shotsOf = new Map(outcomes.map(({ task }) => [task.name, task.numFewshot]));
  const each = (name: string, shots: number, { documents, figures }: TaskResult) =>
    figures.map((figure): Score => ({ name, shots, documents, figure }));
  return [
    ...groups.flatMap(({ group, members, result }) =>
      each(group.name, shotsOf.get(members[0]!) ?? [...shotsOf.values()][0] ?? 0, result),
    ),
    ...outcomes.flatMap(({ task, result }) => each(task.name, task.numFewshot, result)),
  ];
}

/** A row for each published model that has one of the figures, under the row of this evaluation. */
function publishedBlocks(scores: readonly Score[]): ReportBlock[] {
  const nameOf = ({ name, shots, figure }: Score) => figureName(name, figure.metric, shots);
  const isPublished = (one: Score) => publishedModels.some((model) => nameOf(one) in model.scores);
  const columns = scores.filter((one) => one.figure.filter === 'none' && isPublished(one));
  if (columns.length === 0) return [];
  const models = publishedModels.filter((model) => columns.some((one) => nameOf(one) in model.scores));
  const sources = [...new Set(models.map(({ source }) => source))].map((source) => {
    const own = models.filter((model) => model.source === source).map(({ name }) => name);
    return `${own.join(', ')}: ${source}.`;
  });
  const left = scores.length - columns.length;
  const others = left === 1 ? 'Of 1 other figure above' : `Of ${left} other figures above`;
  return [
    { kind: 'heading', text: 'Beside published models' },
    {
      kind: 'table',
      columns: ['model', ...columns.map(nameOf)],
      rows: [
        ['this one', ...columns.map(({ figure }) => shown(figure))],
        ...models.map(({ name, scores: own }) => [name, ...columns.map((one) => own[nameOf(one)]?.toFixed(1) ?? '')]),
      ],
    },
    { kind: 'text', text: `${sources.join(' ')}${left > 0 ? ` ${others} no published score is known here.` : ''}` },
  ];
}

function shown({ metric, value, standardError }: TaskFigure): string {
  if (/perplexity|bits/.test(metric)) return value.toFixed(3);
  const percent = (100 * value).toFixed(1);
  return standardError === undefined ? percent : `${percent} ± ${(100 * HALF_INTERVAL * standardError).toFixed(1)}`;
}
