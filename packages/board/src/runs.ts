/** The runs that are watched: found again from time to time, and read while somebody looks. */
import { existsSync } from 'node:fs';
import { findRuns } from './find_runs.js';
import type { RunSummary } from './run_data.js';
import { RunReader } from './run_reader.js';

/** How often runs are looked at, and new ones looked for. */
const LOOK_MS = 1000;
const SEARCH_MS = 5000;

export class Runs {
  private readers = new Map<string, RunReader>();
  private readonly watchers = new Set<() => void>();
  private timer: NodeJS.Timeout | undefined;
  private searched = Number.NEGATIVE_INFINITY;

  /**
   * @param paths runs, or directories that hold some
   * @throws UserError where one of them is no directory
   */
  constructor(private readonly paths: readonly string[]) {
    findRuns(paths);
    this.refresh();
  }

  /** Looks at all runs now. @returns whether anything has changed */
  refresh(): boolean {
    let changed = false;
    if (performance.now() - this.searched >= SEARCH_MS) {
      this.searched = performance.now();
      const names = this.find();
      changed = names.length !== this.readers.size || names.some((name) => !this.readers.has(name));
      this.readers = new Map(names.map((name) => [name, this.readers.get(name) ?? new RunReader(name)]));
    }
    for (const reader of this.readers.values()) changed = reader.refresh() || changed;
    return changed;
  }

  summaries(): RunSummary[] {
    return [...this.readers.values()].map((reader) => reader.summary());
  }

  get(name: string): RunReader | undefined {
    return this.readers.get(name);
  }

  /** Calls `told` after changes, until the function that it returns is called. */
  watch(told: () => void): () => void {
    this.watchers.add(told);
    this.timer ??= setInterval(() => {
      if (this.refresh()) for (const watcher of this.watchers) watcher();
    }, LOOK_MS);
    return () => {
      this.watchers.delete(told);
      if (this.watchers.size > 0) return;
      clearInterval(this.timer);
      this.timer = undefined;
    };
  }

  /** A directory that was removed meanwhile takes its runs with it. */
  private find(): string[] {
    return findRuns(this.paths.filter((path) => existsSync(path)));
  }
}
