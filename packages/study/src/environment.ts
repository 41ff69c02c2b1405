/** On which hardware and with which software a result was obtained. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, platform, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VERSION } from '@stickbreaking/base';
import { z } from 'zod';

export const EnvironmentSchema = z.object({
  backend: z.string(),
  processor: z.string(),
  threads: z.number(),
  memoryGiB: z.number(),
  system: z.string(),
  node: z.string(),
  /** The commit of this project, if known. */
  commit: z.string(),
});

export type Environment = z.infer<typeof EnvironmentSchema>;

/**
 * The environment of this process.
 *
 * @param backend its description, as `selectBackend` gives it
 */
export function environmentOf(backend: string): Environment {
  return {
    backend,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    threads: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()}`,
    node: process.versions.node,
    commit: commit(),
  };
}

let known: string | undefined;

/** From git in a working copy, from the file `commit` in a bundle; the version where npm installed this. */
function commit(): string {
  known ??= findCommit(dirname(fileURLToPath(import.meta.url)));
  return known;
}

export function findCommit(start: string): string {
  if (start.split(/[\\/]/).includes('node_modules')) return `version ${VERSION}`; // a .git above is the user's
  for (let folder = start; ; folder = dirname(folder)) {
    const file = join(folder, 'commit');
    if (existsSync(file)) return readFileSync(file, 'utf8').trim();
    if (existsSync(join(folder, '.git'))) {
      try {
        const args = ['describe', '--always', '--dirty', '--abbrev=12'];
        return execFileSync('git', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
      } catch {
        return 'unknown';
      }
    }
    if (dirname(folder) === folder) return 'unknown';
  }
}
