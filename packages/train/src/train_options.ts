// What a run is told, what it tells while it goes on, and what it leaves.
import type { LlamaConfig, LlamaConfigInput, LlamaModel, Recompute } from '@stickbreaking/model';
import type { z } from 'zod';
import type { TrainingState } from './checkpoint.js';
import type { Collective } from './collective.js';
import type { StepMetrics, ValidationMetrics } from './metrics.js';
import type { OptimizerSchema } from './optimizer.js';
import type { TrainStage } from './stage.js';
import type { Start } from './start.js';

export interface TrainOptions {
  model: LlamaConfigInput | LlamaConfig;
  stages: readonly TrainStage[];
  optimizer?: z.input<typeof OptimizerSchema>;
  /** What the backward computes again instead of keeping it; losses stay the same. Default: nothing. */
  recompute?: Recompute;
  /** Initial weights follow from it; default 0. */
  seed?: number;
  /** A checkpoint directory whose weights the run starts from, and what of its configuration may differ. */
  startFrom?: string | Start | undefined;
  /** The run's directory: checkpoints/ and metrics.jsonl. Left out: nothing is written. */
  directory?: string | undefined;
  /** Go on from the directory's newest checkpoint, where it has one. */
  resume?: boolean;
  /** Hold the checkpoint that the run goes on or starts from to its checksums; default true. */
  verify?: boolean;
  checkpoints?: { everySteps?: number; keepLast?: number; keepBest?: boolean };
  /** tokenizer.json, copied into the checkpoints */
  tokenizerPath?: string | undefined;
  /** Plain JSON of what else a resumed run must agree in, such as the tokenizer's hash. */
  identity?: Record<string, unknown>;
  validation?: { everySteps: number; loss(model: LlamaModel): Promise<number> } | undefined;
  /** The run stops after this many steps in a row whose loss or gradient was not finite; default 5. */
  maxNonFiniteSteps?: number;
  hooks?: TrainHooks;
  /** Saves and leaves, as soon as the micro-batch under way is done. */
  signal?: AbortSignal;
  /** The processes that share the run; default: this one alone. */
  collective?: Collective;
}

/** Told what happens; the run waits for a promise. */
export interface TrainHooks {
  /** @param resumedFrom the run's own checkpoint that it goes on from @param startedFrom the one whose weights it begins with */
  onStart?(
    model: LlamaModel,
    state: TrainingState,
    resumedFrom: string | undefined,
    startedFrom: string | undefined,
  ): void | Promise<void>;
  onStep?(metrics: StepMetrics, model: LlamaModel): void | Promise<void>;
  onValidation?(metrics: ValidationMetrics, model: LlamaModel): void | Promise<void>;
  onCheckpoint?(directory: string): void | Promise<void>;
  /** One line about something out of the ordinary. */
  onNotice?(line: string): void;
}

export interface TrainResult {
  /** false where `signal` ended it */
  finished: boolean;
  /** The trained model; the caller disposes of it. */
  model: LlamaModel;
  state: TrainingState;
  /** the newest checkpoint */
  checkpoint: string | undefined;
}
