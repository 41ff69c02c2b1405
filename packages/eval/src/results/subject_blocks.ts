/** MMLU by subject and RULER by task and length, in the report of an evaluation. */
import type { Bar } from '../report/bars.js';
import type { Curve } from '../report/curve.js';
import type { ReportBlock } from '../report/report.js';
import type { TaskOutcome } from '../runner/run.js';

/** Half of a 95 % interval in standard errors. */
export const HALF_INTERVAL = 1.96;
/** What guessing among four letters gives. */
const GUESSING = 25;

/** Accuracy by subject, the best first. */
export function subjectBlocks(outcomes: readonly TaskOutcome[]): ReportBlock[] {
  const bars = outcomes.flatMap(({ task, result }): Bar[] => {
    const accuracy = result.figures.find(({ metric }) => metric === 'acc');
    if (!task.name.startsWith('mmlu_') || !accuracy) return [];
    const { value, standardError } = accuracy;
    const half = standardError === undefined ? undefined : HALF_INTERVAL * standardError;
    return [
      {
        name: task.name.slice('mmlu_'.length).replaceAll('_', ' '),
        value: 100 * value,
        ...(half === undefined ? {} : { low: 100 * Math.max(0, value - half), high: 100 * Math.min(1, value + half) }),
        note: `of ${result.documents}`,
      },
    ];
  });
  if (bars.length < 2) return [];
  bars.sort((a, b) => b.value - a.value || a.name.localeCompare(b.name, 'en'));
  return [
    { kind: 'heading', text: 'MMLU by subject' },
    {
      kind: 'bars',
      bars,
      largest: 100,
      mark: { value: GUESSING, label: 'guessing' },
      caption: 'Share of right answers in percent, with 95 % intervals.',
    },
  ];
}

/** Figures that are named by a length, as RULER's, in percent; what was not asked is left out. */
function byLength({ result }: TaskOutcome): Map<number, number> {
  const own = result.figures.filter(({ metric, value }) => /^\d+$/.test(metric) && value >= 0);
  return new Map(own.map(({ metric, value }) => [Number(metric), 100 * value]));
}

/** The means of figure 6 of the paper over lengths, and the tasks of figure 7 as a table. */
export function lengthBlocks(outcomes: readonly TaskOutcome[]): ReportBlock[] {
  const tasks = outcomes.flatMap((outcome) => {
    const found = byLength(outcome);
    return found.size > 0 ? [{ name: outcome.task.name, found }] : [];
  });
  if (tasks.length === 0) return [];
  const lengths = [...new Set(tasks.flatMap(({ found }) => [...found.keys()]))].sort((a, b) => a - b);
  const mean = (own: typeof tasks, length: number) => {
    const values = own.flatMap(({ found }) => found.get(length) ?? []);
    return values.length === own.length ? values.reduce((sum, value) => sum + value, 0) / values.length : undefined;
  };
  const curve = (name: string, own: typeof tasks): Curve[] => {
    const points = lengths.flatMap((x) => {
      const y = mean(own, x);
      return y === undefined ? [] : [{ x, y }];
    });
    return own.length > 0 && points.length > 1 ? [{ name, points }] : [];
  };
  const niah = tasks.filter(({ name }) => name.startsWith('niah_'));
  const curves = [
    ...(tasks.length > 1 ? curve(`mean of ${tasks.length} tasks`, tasks) : []),
    ...(niah.length > 1 ? curve(`mean of ${niah.length} needle tasks`, niah) : []),
    ...tasks.filter(({ name }) => tasks.length === 1 || /vt$/.test(name)).flatMap((one) => curve(one.name, [one])),
  ];
  const shown = (value: number | undefined) => value?.toFixed(1) ?? '';
  const blocks: ReportBlock[] = [{ kind: 'heading', text: 'RULER by length and task' }];
  if (curves.length > 0) {
    blocks.push({
      kind: 'curves',
      name: 'by-length',
      caption: 'Share of answers that hold what was hidden, in percent, by the length of prompt and answer in tokens.',
      curves,
      xLabel: 'length in tokens',
      yLabel: 'score in percent',
      xLog2: true,
      yDomain: [0, 100],
    });
  }
  const rows = tasks.map(({ name, found }) => [name, ...lengths.map((length) => shown(found.get(length)))]);
  const means = ['mean', ...lengths.map((length) => shown(mean(tasks, length)))];
  blocks.push({
    kind: 'table',
    columns: ['task', ...lengths.map((length) => `${length}`)],
    rows: tasks.length > 1 ? [...rows, means] : rows,
  });
  return blocks;
}
