/** One run as its files tell it, read again only where they have changed. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { holderOf } from '@stickbreaking/base/node';
import { MetricsTail, RunConfigSchema, readSamples, stageSizes } from '@stickbreaking/train';
import { evaluationsIn } from './evaluations.js';
import { tablesOf, WorkedTime } from './metrics_tables.js';
import type { RunDetails, RunMetrics, RunState, RunSummary, WholeRun } from './run_data.js';
import { checkpointsOf, type Started, startedOf } from './run_files.js';

/** Reads a run's directory, whether the run goes on or is long over. */
export class RunReader {
  private readonly tail: MetricsTail;
  private worked = new WorkedTime();
  /** Of each line of the tail. */
  private seconds: number[] = [];
  private edition = 0;
  /** What the other files looked like when they were last read. */
  private seen = '';
  private started: Started = { config: undefined, backend: undefined };
  private total: { steps: number; tokens: number } | undefined;
  private state: RunState = 'stopped';

  /** @param name the run's directory */
  constructor(readonly name: string) {
    this.tail = new MetricsTail(join(name, 'metrics.jsonl'));
  }

  /** Looks at the files. @returns whether anything has changed */
  refresh(): boolean {
    const { generation } = this.tail;
    let changed = this.tail.read();
    if (this.tail.generation !== generation) {
      this.worked = new WorkedTime();
      this.seconds = [];
    }
    for (const line of this.tail.lines.slice(this.seconds.length)) this.seconds.push(this.worked.next(line));
    const seen = stampOf(this.name);
    if (seen !== this.seen) {
      this.seen = seen;
      this.edition++;
      this.started = startedOf(this.name);
      this.total = totalOf(this.started.config);
      changed = true;
    }
    const state = this.stateNow();
    if (state === this.state) return changed;
    this.state = state;
    return true;
  }

  /** How far the run is, as of the last `refresh`. */
  summary(): RunSummary {
    const { lines, generation } = this.tail;
    const last = lines.at(-1);
    const step = lines.findLast((line) => 'loss' in line);
    const validation = lines.findLast((line) => 'validationLoss' in line);
    return {
      name: this.name,
      state: this.state,
      step: last?.step ?? 0,
      totalSteps: this.total?.steps,
      tokens: last?.tokens ?? 0,
      totalTokens: this.total?.tokens,
      loss: step && 'loss' in step ? step.loss : undefined,
      validationLoss: validation && 'validationLoss' in validation ? validation.validationLoss : undefined,
      tokensPerSecond: step && 'loss' in step ? step.tokensPerSecond : undefined,
      ...{ generation, lines: lines.length, edition: this.edition },
    };
  }

  /** The metrics from line `from` on, or all of them where they were replaced since. */
  metrics(from = 0, generation = this.tail.generation): RunMetrics {
    const { lines } = this.tail;
    const begin = generation === this.tail.generation && from <= lines.length ? from : 0;
    return {
      generation: this.tail.generation,
      from: begin,
      lines: lines.length,
      tables: tablesOf(lines.slice(begin), this.seconds.slice(begin)),
    };
  }

  /** Reads its other files. */
  details(): RunDetails {
    return {
      edition: this.edition,
      ...this.started,
      checkpoints: checkpointsOf(this.name),
      samples: readSamples(join(this.name, 'samples.jsonl')),
      evaluations: evaluationsIn(this.name),
    };
  }

  /** All of it. */
  whole(): WholeRun {
    return { summary: this.summary(), metrics: this.metrics(), details: this.details() };
  }

  private stateNow(): RunState {
    if (holderOf(this.name)) return 'training';
    const step = this.tail.lines.at(-1)?.step ?? 0;
    return this.total !== undefined && step >= this.total.steps ? 'finished' : 'stopped';
  }
}

/** How long the run is to be; undefined where its configuration is of another version. */
function totalOf(config: unknown): { steps: number; tokens: number } | undefined {
  const parsed = RunConfigSchema.safeParse(config);
  const listed = parsed.success ? stageSizes(parsed.data) : stagesIn(config);
  if (!listed) return undefined;
  return {
    steps: listed.reduce((sum, { steps }) => sum + steps, 0),
    tokens: listed.reduce((sum, { steps, batchTokens }) => sum + steps * batchTokens, 0),
  };
}

/** Of what a checkpoint says of its run. */
function stagesIn(config: unknown): { steps: number; batchTokens: number }[] | undefined {
  const { stages } = (config ?? {}) as { stages?: { steps?: unknown; batchTokens?: unknown }[] };
  const isWhole = stages?.every(({ steps, batchTokens }) => Number.isInteger(steps) && Number.isInteger(batchTokens));
  return isWhole ? (stages as { steps: number; batchTokens: number }[]) : undefined;
}

/** Changes when files of the run other than its metrics do: names, sizes and times of what lies in it. */
function stampOf(directory: string): string {
  const told: string[] = [];
  const look = (folder: string, depth: number) => {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      return;
    }
    for (const name of names) {
      if (name.startsWith('.') || name === 'metrics.jsonl') continue;
      const path = join(folder, name);
      const stats = statSync(path, { throwIfNoEntry: false });
      if (!stats) continue;
      told.push(`${path} ${stats.mtimeMs}${stats.isDirectory() ? '' : ` ${stats.size}`}`);
      if (stats.isDirectory() && depth < 2 && !name.startsWith('step-')) look(path, depth + 1);
    }
  };
  look(directory, 0);
  return told.join('\n');
}
