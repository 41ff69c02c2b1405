// A run from its configuration to its last checkpoint: this is what `sb-train` calls, and what a program may call.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import type { PrepareProgress } from '@stickbreaking/data';
import { CheckpointStore } from './checkpoint.js';
import { openRunData, openRunTokenizer } from './data.js';
import { explain, TrainError } from './errors.js';
import { MetricsFile } from './metrics.js';
import { checkMemory } from './plan.js';
import { type RunConfig, resolveStages } from './run_config.js';
import { begin, restore } from './run_state.js';
import { type TrainerEvents, trainLoop } from './trainer.js';

export interface RunOptions extends TrainerEvents {
  /** Go on from the run directory's newest checkpoint; from the start when there is none yet. */
  resume?: boolean;
  /** One line about what is being done: backend, data, where the run begins. */
  onMessage?: (line: string) => void;
  onTokenize?: (progress: PrepareProgress) => void;
}

export interface RunResult {
  outcome: 'finished' | 'interrupted';
  /** steps and tokens over all stages */
  step: number;
  tokens: number;
  /** the last step's, in nats per token; null when it was not finite, or no step was taken */
  loss: number | null;
  /** directory of the last checkpoint */
  checkpoint: string;
  /** path of metrics.jsonl */
  metrics: string;
}

/**
 * Trains a model as the configuration says. Throws an Error named `UserError`, with one line, for every mistake in the
 * configuration or its files; aborting `signal` saves a checkpoint and returns with outcome `interrupted`.
 */
export async function runTraining(run: RunConfig, options: RunOptions = {}): Promise<RunResult> {
  const say = options.onMessage ?? (() => {});
  const stages = resolveStages(run);
  const checkpoints = new CheckpointStore(join(run.runDirectory, 'checkpoints'), {
    last: run.checkpoint.keepLast,
    best: run.checkpoint.keepBest,
  });
  const from = startingPoint(checkpoints, options.resume ?? false);
  const tokenizer = openRunTokenizer(run);

  if (run.threads) process.env.OMP_NUM_THREADS = String(run.threads);
  const backend = await selectBackend(run.backend);
  say(`backend ${backend.description} (${backend.reason})`);
  checkMemory(run, stages, backend.name);

  const { signal, onTokenize: onProgress } = options;
  const data = await openRunData(run, tokenizer, { ...(signal && { signal }), ...(onProgress && { onProgress }) });
  try {
    makeDirectory(run.runDirectory);
    checkpoints.clean();
    const { changes, ...start } = from ? restore(run, tokenizer, from) : { changes: [], ...begin(run, tokenizer) };
    say(from ? `going on from ${from}` : 'starting at step 0');
    for (const change of changes) options.onWarning?.(`${change}: from here on this is not the run that began`);

    const path = join(run.runDirectory, 'metrics.jsonl');
    const metrics = new MetricsFile(path, start.state.step);
    let loss: number | null = null;
    try {
      const checkpoint = await trainLoop({ run, stages, data, checkpoints, metrics, ...start }, {
        ...options,
        onStep: (line) => {
          loss = line.loss;
          options.onStep?.(line);
        },
      });
      const { step, tokens } = start.state;
      const finished = start.state.stage === stages.length - 1 && start.state.stageStep >= stages.at(-1)!.steps;
      return { outcome: finished ? 'finished' : 'interrupted', step, tokens, loss, checkpoint, metrics: path };
    } finally {
      metrics.close();
      start.optimizer.dispose();
      start.model.dispose();
    }
  } finally {
    data.close();
  }
}

/** The checkpoint to go on from. Refuses to run over another run's checkpoints. */
function startingPoint(checkpoints: CheckpointStore, resume: boolean): string | undefined {
  const latest = checkpoints.latest();
  if (latest && !resume) {
    throw new TrainError(
      `${checkpoints.directory} holds checkpoints already; continue with --resume, or choose another runDirectory.`,
    );
  }
  return latest;
}

function makeDirectory(path: string): void {
  try {
    if (!existsSync(path)) mkdirSync(path, { recursive: true });
  } catch (error) {
    throw explain(error, `cannot make the directory ${path}`);
  }
}

