/** The report of an evaluation: scores with intervals beside the paper's, by subject and by length, and documents. */
import type { ReportBlock } from '../report/report.js';
import type { TaskOutcome } from '../runner/run.js';
import type { TaskFigure, TaskResult } from '../tasks/scores.js';
import { paperScores, paperScoresOf } from './paper_scores.js';
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
      text: 'Shares in percent with 95 % intervals (1.96 standard errors). The columns on the right are the paper’s tables 2 and 3, where it has the figure.',
    },
    scoresTable(outcomes, groups),
    ...subjectBlocks(outcomes),
    ...lengthBlocks(outcomes),
    { kind: 'heading', text: 'Documents' },
    ...outcomes.flatMap((one) => shownDocuments(one, outcomes.length > MANY ? 1 : SHOWN)),
  ];
}

function scoresTable(outcomes: readonly TaskOutcome[], groups: readonly GroupOutcome[]): ReportBlock {
  const shotsOf = new Map(outcomes.map(({ task }) => [task.name, task.numFewshot]));
  const row = (name: string, shots: number, documents: number, figure: TaskFigure) => ({
    own: [
      ...[name, `${shots}`, figure.filter === 'none' ? figure.metric : `${figure.metric}, ${figure.filter}`],
      ...[shown(figure), documents],
    ],
    paper: paperScoresOf(name, figure.metric, shots),
  });
  const rows = (name: string, shots: number, { documents, figures }: TaskResult) =>
    figures.map((figure) => row(name, shots, documents, figure));
  const all = [
    ...groups.flatMap(({ group, members, result }) =>
      rows(group.name, shotsOf.get(members[0]!) ?? [...shotsOf.values()][0] ?? 0, result),
    ),
    ...outcomes.flatMap(({ task, result }) => rows(task.name, task.numFewshot, result)),
  ];
  // Columns of models of which the paper says nothing here would be empty.
  const models = Object.keys(paperScores).filter((model) => all.some(({ paper }) => paper[model] !== undefined));
  return {
    kind: 'table',
    columns: ['task', 'examples', 'figure', 'score', 'documents', ...models],
    rows: all.map(({ own, paper }) => [...own, ...models.map((model) => paper[model]?.toFixed(1) ?? '')]),
  };
}

function shown({ metric, value, standardError }: TaskFigure): string {
  if (/perplexity|bits/.test(metric)) return value.toFixed(3);
  const percent = (100 * value).toFixed(1);
  return standardError === undefined ? percent : `${percent} ± ${(100 * HALF_INTERVAL * standardError).toFixed(1)}`;
}
