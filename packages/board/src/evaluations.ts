/** Evaluations that lie in a run's directory, as sb-eval writes them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readWhole } from '@stickbreaking/base/node';
import type { Evaluation, Score } from './run_data.js';

/** The evaluations in `directory` and in the folders right below it, by their files' names. */
export function evaluationsIn(directory: string): Evaluation[] {
  const found: Evaluation[] = [];
  for (const file of jsonFiles(directory)) {
    const evaluation = evaluationIn(directory, file);
    if (evaluation) found.push(evaluation);
  }
  return found.sort((a, b) => (a.step ?? 0) - (b.step ?? 0) || a.file.localeCompare(b.file, 'en'));
}

function jsonFiles(directory: string, below = ''): string[] {
  let entries: { name: string; isDirectory(): boolean }[];
  try {
    entries = readdirSync(join(directory, below), { withFileTypes: true });
  } catch {
    return [];
  }
  return entries.flatMap((entry) => {
    const path = join(below, entry.name);
    const isPassed = entry.name === 'checkpoints' || entry.name.startsWith('.');
    if (entry.isDirectory()) return isPassed || path.split(/[/\\]/).length > 2 ? [] : jsonFiles(directory, path);
    return entry.name.endsWith('.json') ? [path] : [];
  });
}

/** Undefined where the file is something else. */
function evaluationIn(directory: string, file: string): Evaluation | undefined {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(readWhole(join(directory, file)).toString());
  } catch {
    return undefined; // half written, or no JSON
  }
  const { results } = json ?? {};
  if (typeof results !== 'object' || results === null) return undefined;
  const scores = Array.isArray(results) ? lengthScores(results) : taskScores(results as Record<string, unknown>);
  const checkpoint = String(json.checkpoint ?? json.model_name ?? '');
  const step = /step-(\d+)/.exec(checkpoint)?.[1] ?? /step-(\d+)/.exec(file)?.[1];
  if (scores.length === 0) return undefined;
  return { file, step: step === undefined ? undefined : Number(step), scores };
}

/** A metric, with the filter that answers went through before it was taken, if any. */
export const metricName = (metric: string, filter: string) => (filter === 'none' ? metric : `${metric} (${filter})`);

/** What a score is called beside others. */
export const scoreName = ({ task, metric }: Pick<Score, 'task' | 'metric'>) => `${task}, ${metric}`;

/** Perplexity by context length. */
function lengthScores(results: readonly unknown[]): Score[] {
  return results.flatMap((result) => {
    const { length, protocol, perplexity } = (result ?? {}) as Record<string, unknown>;
    if (typeof length !== 'number' || typeof perplexity !== 'number') return [];
    const task = `${length} tokens${protocol === 'documents' ? ', documents' : ''}`;
    return [{ task, metric: 'perplexity', value: perplexity, standardError: undefined }];
  });
}

/** As lm-evaluation-harness names them: `acc,none` and `acc_stderr,none`. */
function taskScores(results: Record<string, unknown>): Score[] {
  return Object.entries(results).flatMap(([task, entry]) => {
    const figures = Object.entries((entry ?? {}) as Record<string, unknown>);
    return figures.flatMap(([key, value]) => {
      const [, metric, filter] = /^(.+),([^,]+)$/.exec(key) ?? [];
      if (metric === undefined || metric.endsWith('_stderr') || typeof value !== 'number') return [];
      const error = (entry as Record<string, unknown>)[`${metric}_stderr,${filter}`];
      return [
        {
          task,
          metric: metricName(metric, filter!),
          value,
          standardError: typeof error === 'number' ? error : undefined,
        },
      ];
    });
  });
}
