/** Lines of metrics as columns. */
import type { MetricsLine } from '@stickbreaking/train';
import { metricName, scoreName } from './evaluations.js';
import type { MetricsTable } from './run_data.js';

/** Which table a line belongs to, by a key that it has. */
const kinds: readonly (readonly [key: string, table: string])[] = [
  ['loss', 'steps'],
  ['validationLoss', 'validation'],
  ['scores', 'evaluation'],
];
/** What of a line is no metric. */
const places = new Set(['step', 'stage', 'tokens', 'elapsedSeconds']);

/**
 * Seconds that a run had worked when each line was written. Files of earlier versions do not say; there the steps' own
 * speed does.
 */
export class WorkedTime {
  private seconds = 0;
  private tokens = 0;

  next(line: MetricsLine): number {
    const tokens = numberOr(line.tokens, this.tokens);
    if (line.elapsedSeconds !== undefined) this.seconds = numberOr(line.elapsedSeconds, this.seconds);
    else if ('loss' in line && line.tokensPerSecond > 0) this.seconds += (tokens - this.tokens) / line.tokensPerSecond;
    this.tokens = tokens;
    return this.seconds;
  }
}

/** A line that was damaged may hold anything. */
const numberOr = (value: unknown, otherwise: number) => (typeof value === 'number' ? value : otherwise);

/** A score of a task, under the name that evaluations in files have too. */
function scoreIn(score: unknown): [string, number | null][] {
  const { task, metric, filter, value } = (score ?? {}) as Record<string, unknown>;
  if (typeof value !== 'number') return [];
  return [[scoreName({ task: String(task), metric: metricName(String(metric), String(filter ?? 'none')) }), value]];
}

/** The metrics of a line, those inside others under both names: `attention.distance.0`. */
function numbersIn(line: object, within: readonly string[] = []): [name: string, value: number | null][] {
  return Object.entries(line).flatMap(([key, value]): [string, number | null][] => {
    if (within.length === 0 && places.has(key)) return [];
    if (within.length === 0 && key === 'scores' && Array.isArray(value)) return value.flatMap(scoreIn);
    const path = [...within, key];
    if (typeof value === 'number' || value === null) return [[path.join('.'), value]];
    return typeof value === 'object' && path.length < 4 ? numbersIn(value, path) : [];
  });
}

/** @param seconds of each line */
export function tablesOf(lines: readonly MetricsLine[], seconds: readonly number[]): Record<string, MetricsTable> {
  const tables: Record<string, MetricsTable> = {};
  for (const [i, line] of lines.entries()) {
    const kind = kinds.find(([key]) => key in line)?.[1] ?? 'other';
    // Without a prototype: a task may be called like what every object has.
    tables[kind] ??= { step: [], tokens: [], seconds: [], values: Object.create(null) };
    const table = tables[kind];
    const before = table.step.length;
    table.step.push(line.step);
    table.tokens.push(numberOr(line.tokens, table.tokens.at(-1) ?? 0));
    table.seconds.push(Math.round(1000 * seconds[i]!) / 1000);
    for (const [name, value] of numbersIn(line)) {
      table.values[name] ??= new Array<null>(before).fill(null);
      if (table.values[name].length === before) table.values[name].push(value);
    }
    for (const column of Object.values(table.values)) if (column.length === before) column.push(null);
  }
  return tables;
}
