/// <reference path="./d3-dsv.d.ts" />
/**
 * The rows of a task's data set from files under a folder, as the Hugging Face Hub publishes them or as their authors did.
 * Nothing is fetched.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ownValue, shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { hashFile, listFiles, readRows, type SourceFile, wikiTextPages } from '@stickbreaking/data';
import { csvParseRows } from 'd3-dsv';
import type { Row, TaskDefinition } from '../tasks/definition.js';

/** A file of a data set. */
export interface DataFile {
  /** From the folder of all data sets. */
  path: string;
  bytes: number;
  /** of its bytes, in hexadecimal */
  sha256: string;
}

/** A split of a task's data set. */
interface Split {
  task: TaskDefinition;
  split: string;
}

/** Files of splits that were looked for. */
export interface FoundData {
  /** @returns the rows of a split, read once */
  rows(task: TaskDefinition, split: string): Promise<readonly Row[]>;
  /** The files that were read so far, by data set and split. */
  readonly files: Readonly<Record<string, readonly DataFile[]>>;
}

/** The splits that tasks need. */
export function splitsOf(tasks: readonly TaskDefinition[], numFewshotOf: (task: TaskDefinition) => number): Split[] {
  return tasks.flatMap((task) => {
    if (task.write) return [];
    const from = task.shots?.from;
    const pool = typeof from === 'string' && numFewshotOf(task) > 0 ? [from] : [];
    return [task.split, ...pool].map((split) => ({ task, split }));
  });
}

/**
 * Looks for the files of splits, before anything is loaded.
 *
 * @throws UserError that names the first that is missing, its columns and where it is published
 */
export function findData(directory: string, splits: readonly Split[]): FoundData {
  if (!existsSync(directory)) {
    throw new UserError(`--data-dir: there is no directory ${shown(directory)}.`, { missing: true });
  }
  const found = new Map<string, SourceFile[]>();
  const missing: Split[] = [];
  for (const one of splits) {
    const key = keyOf(one);
    if (found.has(key)) continue;
    const files = filesOf(directory, one);
    if (files) found.set(key, files);
    else missing.push(one);
  }
  if (missing.length > 0) throw notFound(directory, missing);
  const rows = new Map<string, Promise<readonly Row[]>>();
  const read: Record<string, DataFile[]> = Object.create(null); // by names that users choose
  return {
    files: read,
    rows: (task, split) => {
      const key = keyOf({ task, split });
      if (!rows.has(key)) rows.set(key, load(key, found.get(key)!, directory, read));
      return rows.get(key)!;
    },
  };
}

function keyOf({ task: { name, files, dataset }, split }: Split): string {
  return [...(files ? [name] : []), dataset.path, ...(dataset.name === undefined ? [] : [dataset.name]), split].join(
    ' ',
  );
}

async function load(
  key: string,
  files: readonly SourceFile[],
  directory: string,
  read: Record<string, DataFile[]>,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  const beside: string[] = [];
  for (const file of files) {
    const labels = labelsBeside(file.path);
    const found = await rowsOf(file);
    if (labels !== undefined) beside.push(labels);
    for (const row of labels === undefined ? found : labelled(found, labels)) rows.push(row);
  }
  if (rows.length === 0) throw new UserError(`${shown(files[0]!.path)} holds no row.`);
  read[key] = await Promise.all(
    [...files.map(({ path }) => path), ...beside].map(async (path) => ({
      path: relative(directory, path),
      bytes: statSync(path).size,
      sha256: await hashFile(path),
    })),
  );
  return rows;
}

async function rowsOf(file: SourceFile): Promise<Row[]> {
  if (file.path.endsWith('.raw')) return await wikiTextRows(file.path);
  if (file.path.endsWith('.csv')) {
    // Without a header: the task knows the columns.
    return csvParseRows(readWhole(file.path, shown(file.path)).toString()).map((cells) => ({ cells }));
  }
  const rows: Row[] = [];
  for await (const row of readRows({ path: file.path, format: file.format })) rows.push(row);
  return rows;
}

/** The file of labels that some releases have beside the rows: `valid-labels.lst` beside `valid.jsonl`. */
function labelsBeside(path: string): string | undefined {
  const labels = path.replace(/\.jsonl$/, '-labels.lst');
  return labels !== path && existsSync(labels) ? labels : undefined;
}

/** @throws UserError where there are not as many labels as rows */
function labelled(rows: readonly Row[], path: string): Row[] {
  const labels = readWhole(path, shown(path)).toString().trim().split(/\r?\n/);
  if (labels.length === rows.length) return rows.map((row, i) => ({ ...row, label: labels[i]! }));
  throw new UserError(`${shown(path)} has ${labels.length} labels for ${rows.length} rows.`);
}

async function wikiTextRows(path: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const page of wikiTextPages(readWhole(path, shown(path)).toString().split('\n'))) rows.push({ page });
  return rows;
}

/** Folders that a data set may have. */
function foldersOf(path: string): string[] {
  return [path, path.replace('/', '__'), path.split('/').at(-1)!, `datasets--${path.replace('/', '--')}`];
}

/** Names that the files of a split may have in its data set's folder, in the order tried. */
function patternsOf({ task: { dataset, released = {} }, split }: Split): string[] {
  const { name } = dataset;
  const endings = ['jsonl', 'jsonl.gz', 'jsonl.zst', 'json'];
  const ofConfig =
    name === undefined
      ? []
      : [
          `${name}/${split}-*.parquet`,
          `${name}/${split}.parquet`,
          `${name}/${split}/*.parquet`,
          ...endings.flatMap((ending) => [`${name}/${split}.${ending}`, `${name}_${split}.${ending}`]),
        ];
  const whole = [
    ...[`${split}-*.parquet`, `${split}.parquet`, `default/${split}/*.parquet`, `default/${split}-*.parquet`],
    ...endings.map((ending) => `${split}.${ending}`),
  ];
  const names = [...ofConfig, ...whole];
  // As the Hub's own cache has them too.
  return [
    ...names.flatMap((file) => [file, `data/${file}`, `snapshots/*/${file}`, `snapshots/*/data/${file}`]),
    ...(ownValue(released, split) ?? []),
  ];
}

function filesOf(directory: string, split: Split): SourceFile[] | undefined {
  const own = split.task.files && ownValue(split.task.files, split.split);
  if (own) return listFiles({ path: [...own] });
  if (split.task.files) return undefined;
  for (const folder of foldersOf(split.task.dataset.path)) {
    const names = namesIn(join(directory, folder));
    for (const pattern of patternsOf(split)) {
      const expression = expressionOf(pattern);
      const found = names.filter((name) => expression.test(name)).sort();
      if (found.length === 0) continue;
      const path = found.map((name) => join(directory, folder, name));
      // RACE has JSON in .txt; of what is no kind of text that is known, `rowsOf` knows more.
      const format = pattern.endsWith('.txt') ? 'json' : pattern.endsWith('.csv') ? 'txt' : undefined;
      return listFiles({ path, ...(format ? { format } : {}) });
    }
  }
  return undefined;
}

/** All files of a folder at any depth, with slashes between. */
function namesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true }).map((name) => `${name}`.replaceAll('\\', '/'));
}

function expressionOf(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\?]/g, '\\$&')
    .replaceAll('**/', '(?:.+/)?')
    .replace(/(?<!\))\*/g, '[^/]*');
  return new RegExp(`^${source}$`);
}

function notFound(directory: string, missing: readonly Split[]): UserError {
  const [{ task, split }] = missing as [Split];
  const { path, name } = task.dataset;
  const which = `the split '${split}' of ${path}${name === undefined ? '' : ` (${name})`}`;
  const more = missing.length > 1 ? `; ${missing.length - 1} more are missing, of ${listed(missing.slice(1))}` : '';
  if (task.files) {
    const splits = Object.keys(task.files).join(', ');
    return new UserError(`${task.name}: its data_files have no split '${split}', but ${splits}.`);
  }
  const pattern = `${path}/${patternsOf({ task, split })[0]}`;
  const released = ownValue(task.released ?? {}, split)?.[0]?.replace(/^\*\*\//, '');
  const original = released === undefined ? '' : `, or ${released} of the original release`;
  return new UserError(
    `${task.name}: ${which} is not under ${shown(directory)}; expected ${pattern} or .jsonl with the columns ${task.columns.join(', ')}, as published at https://huggingface.co/datasets/${path}${original}${more}.`,
    { missing: true },
  );
}

function listed(missing: readonly Split[]): string {
  const names = [...new Set(missing.map(({ task }) => task.dataset.path))];
  return names.length > 4 ? `${names.slice(0, 4).join(', ')}, …` : names.join(', ');
}
