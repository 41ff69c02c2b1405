/** Which directories are runs. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';

const DEEPEST = 6;
/** They hold no runs, and may hold a great many files. */
const passedOver = new Set(['node_modules', 'checkpoints', 'tokens']);

const isRun = (directory: string) =>
  existsSync(join(directory, 'metrics.jsonl')) || existsSync(join(directory, 'checkpoints'));

/**
 * The runs among and below `paths`, sorted, each once.
 *
 * @throws UserError where one of the paths is no directory
 */
export function findRuns(paths: readonly string[]): string[] {
  const runs = new Set<string>();
  const walk = (directory: string, depth: number) => {
    if (isRun(directory)) runs.add(directory);
    else if (depth < DEEPEST) for (const name of foldersIn(directory)) walk(join(directory, name), depth + 1);
  };
  for (const path of paths) {
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory())
      throw new UserError(`${path} is no directory; name a run's, or one that holds runs.`);
    walk(join(path).replace(/(?<=.)[/\\]$/, ''), 0);
  }
  return [...runs].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}

function foldersIn(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && !passedOver.has(entry.name))
      .map(({ name }) => name);
  } catch {
    return []; // not ours to read, or gone just now
  }
}
