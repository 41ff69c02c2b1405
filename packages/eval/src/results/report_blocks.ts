/** The report of an evaluation: scores with intervals beside the paper's, RULER by length, documents one can read. */
import type { ReportBlock } from '../report/report.js';
import type { TaskOutcome } from '../runner/run.js';
import type { TaskFigure, TaskResult } from '../tasks/scores.js';
import { paperScores, paperScoresOf } from './paper_scores.js';
import type { GroupOutcome, RunFacts } from './results.js';

/** Documents of each task that are shown whole. */
const SHOWN = 3;
/** Half of a 95 % interval in standard errors. */
const HALF_INTERVAL = 1.96;

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
    ...lengthBlocks(outcomes),
    { kind: 'heading', text: 'Documents' },
    ...outcomes.flatMap(shownDocuments),
  ];
}

function scoresTable(outcomes: readonly TaskOutcome[], groups: readonly GroupOutcome[]): ReportBlock {
  const models = Object.keys(paperScores);
  const shotsOf = new Map(outcomes.map(({ task }) => [task.name, task.numFewshot]));
  const row = (name: string, shots: number, documents: number, figure: TaskFigure) => {
    const paper = paperScoresOf(name, figure.metric, shots);
    return [
      name,
      `${shots}`,
      figure.filter === 'none' ? figure.metric : `${figure.metric}, ${figure.filter}`,
      shown(figure),
      documents,
      ...models.map((model) => (paper[model] === undefined ? '' : paper[model].toFixed(1))),
    ];
  };
  const rows = (name: string, shots: number, { documents, figures }: TaskResult) =>
    figures.map((figure) => row(name, shots, documents, figure));
  return {
    kind: 'table',
    columns: ['task', 'examples', 'figure', 'score', 'documents', ...models],
    rows: [
      ...groups.flatMap(({ group, members, result }) =>
        rows(group.name, shotsOf.get(members[0]!) ?? [...shotsOf.values()][0] ?? 0, result),
      ),
      ...outcomes.flatMap(({ task, result }) => rows(task.name, task.numFewshot, result)),
    ],
  };
}

function shown({ metric, value, standardError }: TaskFigure): string {
  if (/perplexity|bits/.test(metric)) return value.toFixed(3);
  const percent = (100 * value).toFixed(1);
  return standardError === undefined ? percent : `${percent} ± ${(100 * HALF_INTERVAL * standardError).toFixed(1)}`;
}

/** Figures that are named by a length, as RULER's, over that length. */
function lengthBlocks(outcomes: readonly TaskOutcome[]): ReportBlock[] {
  const curves = outcomes.flatMap(({ task, result }) => {
    const points = result.figures
      .filter(({ metric, value }) => /^\d+$/.test(metric) && value >= 0)
      .map(({ metric, value }) => ({ x: Number(metric), y: 100 * value }));
    return points.length > 1 ? [{ name: task.name, points }] : [];
  });
  if (curves.length === 0) return [];
  return [
    { kind: 'heading', text: 'By length' },
    {
      kind: 'curves',
      name: 'by-length',
      caption: 'Share of answers that hold what was hidden, in percent, by the length of prompt and answer in tokens.',
      curves,
      xLabel: 'length in tokens',
      yLabel: 'score in percent',
      xLog2: true,
    },
  ];
}

function shownDocuments({ task, scores, answers }: TaskOutcome): ReportBlock[] {
  return task.examples.slice(0, SHOWN).map((document, d) => {
    const [request] = document.requests;
    const prompt = request === undefined ? '' : 'text' in request ? request.text : request.context;
    const asked = document.requests.map((one, r) => {
      const answer = answers[d]![r]!;
      if ('text' in answer) return `answer: ${answer.text}`;
      if ('losses' in answer) return '';
      return `${answer.logLikelihood.toFixed(3)} ${'continuation' in one ? one.continuation : ''}`;
    });
    const found = Object.entries(scores[d]!).map(([filter, { metrics }]) => `${filter}: ${JSON.stringify(metrics)}`);
    const text = [prompt, '', ...asked, '', `right: ${document.target}`, ...found].join('\n');
    return { kind: 'code', summary: `${task.name}, document ${document.id}`, text };
  });
}
