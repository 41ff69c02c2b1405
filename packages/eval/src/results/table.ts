/** The harness's table of results. */
import type { TaskOutcome } from '../runner/run.js';
import type { TaskFigure } from '../tasks/scores.js';
import type { GroupOutcome } from './results.js';

const HEADER = ['Tasks', 'Version', 'Filter', 'n-shot', 'Metric', '', 'Value', '', 'Stderr'];
const RIGHT = new Set(['Version', 'n-shot', 'Value', 'Stderr']);

interface Rows {
  label: string;
  version: number | undefined;
  shots: number | undefined;
  figures: readonly TaskFigure[];
}

/** All tasks, those of a group under it; and after them the groups alone. */
export function resultsTable(outcomes: readonly TaskOutcome[], groups: readonly GroupOutcome[]): string {
  const tasks = new Map(outcomes.map((one) => [one.task.name, one]));
  const byName = new Map(groups.map((one) => [one.group.name, one]));
  const shown = new Set<string>();
  const rows: Rows[] = [];
  const groupRow = ({ group, result }: GroupOutcome, depth: number): Rows => ({
    label: indented(group.alias ?? group.name, depth),
    version: group.version,
    shots: undefined,
    figures: result.figures,
  });
  const add = (name: string, depth: number) => {
    if (shown.has(name)) return;
    shown.add(name);
    const task = tasks.get(name);
    if (task) {
      const { definition, numFewshot } = task.task;
      const label = indented(depth > 0 ? (definition.alias ?? name) : name, depth);
      rows.push({ label, version: definition.version, shots: numFewshot, figures: task.result.figures });
    }
    const group = byName.get(name);
    if (!group) return;
    const scored = group.result.figures.length > 0;
    if (scored) rows.push(groupRow(group, depth));
    for (const member of [...group.members].sort()) add(member, scored ? depth + 1 : depth);
  };
  for (const { group } of groups) add(group.name, 0);
  for (const name of tasks.keys()) add(name, 0);
  const scored = groups.filter(({ result }) => result.figures.length > 0);
  const tables = [drawn(HEADER, rows)];
  if (scored.length > 0) {
    tables.push(
      drawn(
        ['Groups', ...HEADER.slice(1)],
        scored.map((one) => groupRow(one, 0)),
      ),
    );
  }
  return tables.join('\n\n');
}

function indented(label: string, depth: number): string {
  return depth === 0 ? label : `${' '.repeat(depth)}- ${label}`;
}

function drawn(header: readonly string[], rows: readonly Rows[]): string {
  const cells = rows.flatMap(({ label, version, shots, figures }) =>
    figures.map(({ metric, filter, value, standardError, higherIsBetter }, i) => [
      i === 0 ? label : '',
      i === 0 ? `${version ?? ''}` : '',
      filter,
      `${shots ?? ''}`,
      metric,
      higherIsBetter ? '↑' : '↓',
      value.toFixed(4),
      '±',
      standardError === undefined ? 'N/A' : standardError.toFixed(4),
    ]),
  );
  const widths = header.map((name, c) => Math.max(name.length, 3, ...cells.map((row) => row[c]!.length)));
  const line = (row: readonly string[]) =>
    `|${row.map((cell, c) => (RIGHT.has(header[c]!) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!))).join('|')}|`;
  const rule = header.map((name, c) => (RIGHT.has(name) ? `${'-'.repeat(widths[c]! - 1)}:` : '-'.repeat(widths[c]!)));
  return [line(header), line(rule), ...cells.map(line)].join('\n');
}
