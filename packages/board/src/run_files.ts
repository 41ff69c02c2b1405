/** What else lies in a run's directory: how it was started, its checkpoints, its samples. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readState, storeToRead } from '@stickbreaking/train';
import type { CheckpointFiles } from './run_data.js';

/** How the run was last started, by its log. */
export interface Started {
  config: unknown;
  backend: string | undefined;
}

export function startedOf(directory: string): Started {
  const starts = jsonLines<{ msg?: string; config?: unknown; backend?: string }>(join(directory, 'train.log'));
  const last = starts.findLast(({ msg, config }) => msg === 'start' && config !== undefined);
  if (last) return { config: last.config, backend: last.backend };
  const latest = storeToRead(directory).latest();
  if (latest === undefined) return { config: undefined, backend: undefined };
  try {
    return { config: readState(latest).identity, backend: undefined };
  } catch {
    return { config: undefined, backend: undefined };
  }
}

export function checkpointsOf(directory: string): CheckpointFiles[] {
  const store = storeToRead(directory);
  const latest = store.latest();
  const best = pointed(directory, 'best');
  return store.steps().flatMap((step) => {
    const path = store.path(step);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats) return []; // deleted just now
    const name = path.split(/[/\\]/).at(-1)!;
    const time = stats.mtime.toISOString();
    return [{ name, step, bytes: bytesOf(path), time, isLatest: path === latest, isBest: name === best }];
  });
}

function pointed(directory: string, pointer: string): string | undefined {
  const path = join(directory, 'checkpoints', pointer);
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

function bytesOf(directory: string): number {
  try {
    return readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  } catch {
    return 0; // deleted just now
  }
}

/** The lines that are whole JSON. */
function jsonLines<Line>(path: string): Line[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        const parsed = JSON.parse(line) as Line | null;
        return parsed === null || typeof parsed !== 'object' ? [] : [parsed];
      } catch {
        return [];
      }
    });
}
