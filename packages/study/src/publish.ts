/** What a study publishes: one HTML file, the numbers as JSON and CSV, and each picture as SVG. */
import { join } from 'node:path';
import { formatDuration } from '@stickbreaking/base';
import { replaceFile } from '@stickbreaking/base/node';
import { type Report, writePictures, writeReport } from '@stickbreaking/eval';
import type { Environment } from './environment.js';
import { type ArmRecord, writeJson } from './folder.js';
import type { Row, StudyConfig, StudyReport } from './study.js';

export interface Published {
  config: StudyConfig;
  /** The command line that made it. */
  command: string;
  report: StudyReport;
  records: readonly ArmRecord[];
  /** Arms that are not done. */
  missing: readonly string[];
}

export async function publish(directory: string, published: Published): Promise<void> {
  const { config, command, report, records, missing } = published;
  const page = pageOf(published);
  await writeReport(join(directory, 'report.html'), page);
  await writePictures(join(directory, 'pictures'), page);
  const { title, findings, rows } = report;
  const environments = distinct(records.map(({ environment }) => environment));
  const times = timesOf(records);
  const facts = { study: config.study, title, command, environments, ...times, missing, configuration: config };
  const arms = records.map(({ id, seconds, finished, result }) => ({ id, seconds, finished, result }));
  writeJson(join(directory, 'results.json'), { ...facts, findings, rows, arms });
  replaceFile(join(directory, 'results.csv'), toCsv(rows));
}

function pageOf({ config, command, report, records, missing }: Published): Report {
  const unfinished = {
    kind: 'text' as const,
    text: `Not finished: ${missing.length} of ${records.length + missing.length} arms are still to be run (${short(missing)}). Run the same command again to go on.`,
  };
  const { findings, expectedBy = 'the paper' } = report;
  return {
    title: report.title,
    blocks: [
      ...(missing.length > 0 ? [unfinished] : []),
      ...(findings.length > 0
        ? [
            { kind: 'heading' as const, text: `What ${expectedBy} expects and what was found` },
            { kind: 'findings' as const, findings, expectedBy },
          ]
        : []),
      ...report.blocks,
      { kind: 'heading', text: 'What was run' },
      { kind: 'facts', facts: factsOf(command, records) },
      {
        kind: 'files',
        files: [
          { path: 'results.csv', text: 'The numbers as CSV' },
          { path: 'results.json', text: 'everything as JSON' },
        ],
      },
      { kind: 'code', summary: 'Configuration', text: JSON.stringify(config, null, 2) },
    ],
  };
}

function factsOf(command: string, records: readonly ArmRecord[]): [string, string][] {
  const environments = distinct(records.map(({ environment }) => environment));
  const tokens = records.reduce((sum, { result }) => sum + ((result as { tokens?: number }).tokens ?? 0), 0);
  const finished = records.map((record) => record.finished).sort();
  const all = (key: keyof Environment) => distinct(environments.map((one) => String(one[key]))).join('; ');
  return [
    ['command', command],
    ['commit', all('commit')],
    ['backend', all('backend')],
    ['processor', `${all('processor')}, ${all('threads')} threads, ${all('memoryGiB')} GiB`],
    ['system', `${all('system')}, Node ${all('node')}`],
    ['arms', `${records.length}`],
    ['time', timeOf(records)],
    ...(tokens > 0
      ? [['tokens trained on', `${(tokens / 1e6).toFixed(1)} million, all arms together`] as [string, string]]
      : []),
    ...(finished.length > 0 ? [['run', `${finished[0]} to ${finished.at(-1)}`] as [string, string]] : []),
  ];
}

/** The times of arms that ran at once add up to more than the time by the clock. */
function timeOf(records: readonly ArmRecord[]): string {
  const { seconds, elapsedSeconds } = timesOf(records);
  if (seconds <= 1.02 * elapsedSeconds) return formatDuration(seconds);
  return `${formatDuration(elapsedSeconds)}; the arms together ${formatDuration(seconds)}`;
}

const timesOf = (records: readonly ArmRecord[]) => ({
  seconds: records.reduce((sum, record) => sum + record.seconds, 0),
  elapsedSeconds: elapsedOf(records),
});

/** Time in which at least one arm ran. */
export function elapsedOf(records: readonly Pick<ArmRecord, 'seconds' | 'finished'>[]): number {
  const ends = records.map(({ seconds, finished }) => ({ seconds, end: Date.parse(finished) / 1000 }));
  ends.sort((a, b) => a.end - a.seconds - (b.end - b.seconds));
  let [elapsed, until] = [0, Number.NEGATIVE_INFINITY];
  for (const { seconds, end } of ends) {
    elapsed += Math.max(0, end - Math.max(until, end - seconds));
    until = Math.max(until, end);
  }
  return elapsed;
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
}

function short(names: readonly string[]): string {
  return names.length <= 3 ? names.join('; ') : `${names.slice(0, 3).join('; ')}; …`;
}

/** Rows under one header with every column that any row has (RFC 4180). */
export function toCsv(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value: string | number | undefined) => {
    const text = value === undefined ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))]
    .map((line) => `${line.map(cell).join(',')}\r\n`)
    .join('');
}
