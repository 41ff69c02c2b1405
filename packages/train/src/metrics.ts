// metrics.jsonl: one line a step (a validation, an evaluation), in the order of the run. A resumed run first drops what lies past
// its checkpoint, so that the file is the one of a run that never stopped.
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { readWhole, removeLeftovers } from '@stickbreaking/base/node';
import type { AttentionReach } from '@stickbreaking/model';
import { backend } from '@tensorflow/tfjs-core';
import { LinesFile } from './lines_file.js';
import type { RoutingMetrics } from './routing.js';

/** One optimizer step; of a model with experts, also where its tokens went. */
export interface StepMetrics extends Partial<RoutingMetrics> {
  /** from 1, over all stages */
  step: number;
  stage: number;
  /** tokens seen, this step's included */
  tokens: number;
  /** mean negative log-likelihood per token in nats; null when it was not finite */
  loss: number | null;
  learningRate: number;
  /** before clipping; null when it was not finite */
  gradientNorm: number | null;
  tokensPerSecond: number;
  /** the model's own work on those, by the parameters that a token passes (`trainingFlopsPerToken`), on all processes together */
  flopsPerSecond: number;
  /** of a device with memory of its own the most that was taken so far, otherwise what the process takes now; in bytes */
  memoryBytes: number;
  /** true if the parameters were not updated because the loss or the gradient was not finite */
  skipped?: true;
}

/** One pass over the validation data, after step `step`. */
export interface ValidationMetrics {
  step: number;
  tokens: number;
  /** nats per token */
  validationLoss: number;
  /** how far back each layer looks, over a part of the validation data */
  attention?: AttentionReach;
}

/** A figure of a task, such as its share of right answers. */
export interface TaskScore {
  task: string;
  metric: string;
  filter: string;
  value: number;
  /** null where none is known */
  standardError: number | null;
}

/** The model's scores on tasks, after step `step`. */
export interface EvaluationMetrics {
  step: number;
  tokens: number;
  scores: TaskScore[];
}

/** When a line was written. Files of earlier versions do not say. */
export interface Written {
  /** ISO 8601, in UTC */
  time?: string;
  /** seconds that the run has worked, also before it was stopped and resumed */
  elapsedSeconds?: number;
}

/** One line of metrics.jsonl. */
export type MetricsLine = (StepMetrics | ValidationMetrics | EvaluationMetrics) & Written;

/** Bytes, as `StepMetrics` says. */
export function memoryInUse(): number {
  const { peakBytesInGpu } = backend().memory() as { peakBytesInGpu?: number };
  return peakBytesInGpu ?? process.memoryUsage.rss();
}

export class MetricsFile {
  private readonly file: LinesFile;
  /** What `performance.now()` was when the run's clock stood at 0. */
  private readonly start: number;

  /** Opens the file for appending, without its lines past step `keepSteps`. */
  constructor(
    readonly path: string,
    keepSteps: number,
    onNotice?: (line: string) => void,
  ) {
    removeLeftovers(dirname(path), 'anyone');
    const { lines, odd } = existsSync(path) ? parseMetrics(path) : { lines: [], odd: [] };
    if (odd.length > 0)
      onNotice?.(
        `${path}: line ${odd.slice(0, 10).join(', ')} is not a line of metrics that belongs there and is removed`,
      );
    const kept = lines.filter((line) => line.step <= keepSteps);
    const steps = kept.filter((line) => 'loss' in line).length;
    if (steps < keepSteps) onNotice?.(`${path} lacks the metrics of ${keepSteps - steps} of ${keepSteps} steps`);
    this.start = performance.now() - 1000 * (kept.at(-1)?.elapsedSeconds ?? 0);
    this.file = new LinesFile(path, kept);
  }

  /** Writes the line with the time. @returns what was written */
  append<Line extends MetricsLine>(line: Line): Line & Required<Written> {
    const elapsedSeconds = Math.round(performance.now() - this.start) / 1000;
    const written = { ...line, time: new Date().toISOString(), elapsedSeconds };
    this.file.append(written);
    return written;
  }

  /** Called before a checkpoint: what it has seen must be on the disk with it. */
  sync(): void {
    this.file.sync();
  }

  close(): void {
    this.file.close();
  }
}

/**
 * The lines of a metrics.jsonl; what is no line of metrics, such as one that a crash cut short, is left out.
 *
 * @throws UserError where the file cannot be read
 */
export function readMetrics(path: string): MetricsLine[] {
  return parseMetrics(path).lines;
}

/**
 * The lines, and the numbers (from 1) of those that are none or do not follow on those before: a step comes once, and its
 * validation and evaluation after it.
 */
function parseMetrics(path: string): { lines: MetricsLine[]; odd: number[] } {
  const texts = readWhole(path).toString().split('\n').slice(0, -1); // what follows the last line break is half a line
  const parsed = texts.map(parseLine);
  const steps = parsed.flatMap((line) => (line && 'loss' in line ? [line.step] : []));
  const lines: MetricsLine[] = [];
  const odd: number[] = [];
  let [last, at] = [0, 0];
  for (const [i, line] of parsed.entries()) {
    if (line && 'loss' in line) {
      const next = steps[++at] ?? Number.POSITIVE_INFINITY;
      // Where the next one goes back, but not behind the last, this one is too far ahead.
      const follows = line.step > last && !(next > last && next <= line.step);
      if (follows) last = line.step;
      if (follows) lines.push(line);
      else odd.push(i + 1);
    } else if (line && line.step >= last) lines.push(line);
    else odd.push(i + 1);
  }
  return { lines, odd };
}

/** Undefined where it is none. */
export function parseLine(line: string): MetricsLine | undefined {
  try {
    const parsed = JSON.parse(line) as Partial<StepMetrics & ValidationMetrics & EvaluationMetrics> | null;
    // JSON has null for a loss that was not finite.
    const isLoss = (value: unknown) => typeof value === 'number' || value === null;
    const isMetrics = isLoss(parsed?.loss) || isLoss(parsed?.validationLoss) || Array.isArray(parsed?.scores);
    return Number.isInteger(parsed?.step) && isMetrics ? (parsed as MetricsLine) : undefined;
  } catch {
    return undefined;
  }
}
