/** Which files of samples are compared with which. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';

/** Samples of the same task. */
export interface SamplesPair {
  /** undefined where two files were named. */
  task: string | undefined;
  first: string;
  second: string;
}

/**
 * @param first a file, or a folder: then the newest samples of every task that both folders have
 * @throws UserError where they have none in common, or one is a file and the other a folder
 */
export function samplesPairs(first: string, second: string): SamplesPair[] {
  const folders = [first, second].filter((path) => existsSync(path) && statSync(path).isDirectory());
  if (folders.length === 0) return [{ task: undefined, first, second }];
  if (folders.length === 1) {
    throw new UserError(`${shown(folders[0]!)} is a folder, and the other is a file; name two of a kind.`);
  }
  const [left, right] = [newestIn(first), newestIn(second)];
  const tasks = [...left.keys()].filter((task) => right.has(task)).sort();
  if (tasks.length > 0) return tasks.map((task) => ({ task, first: left.get(task)!, second: right.get(task)! }));
  const had = (own: ReadonlyMap<string, string>) => [...own.keys()].join(', ') || 'none';
  throw new UserError(
    `${shown(first)} and ${shown(second)} have samples of no task in common: of ${had(left)} and of ${had(right)}; sb-eval writes them with --log-samples.`,
  );
}

/** The newest file of each task, here or in the model's folder below. */
function newestIn(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  const names = readdirSync(folder, { recursive: true }).map(String);
  for (const name of names.sort((a, b) => basename(a).localeCompare(basename(b), 'en'))) {
    const task = /samples_(.+?)_\d{4}-\d\d-\d\dT[^/\\]*\.jsonl$/.exec(name)?.[1];
    if (task !== undefined) found.set(task, join(folder, name)); // a later time comes later
  }
  return found;
}
