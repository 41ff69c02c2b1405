// Options, hooks and result of a run.

import type { MatmulPrecision, ResidualType } from '@stickbreaking/core';
import type { SavedTokenizer } from '@stickbreaking/data';
import type { LlamaConfig, LlamaConfigInput, LlamaModel, Recompute, TokenBatch } from '@stickbreaking/model';
import type { z } from 'zod';
import type { TrainingState } from './checkpoint.js';
import type { Collective, ReduceType } from './collective.js';
import type { Evaluation } from './evaluation.js';
import type { EvaluationMetrics, StepMetrics, ValidationMetrics } from './metrics.js';
import type { OptimizerSchema } from './optimizer.js';
import type { Sample, Sampling } from './samples.js';
import type { TrainStage } from './stage.js';
import type { Start } from './start.js';

/** Options of `train`. */
export interface TrainOptions {
  model: LlamaConfigInput | LlamaConfig;
  stages: readonly TrainStage[];
  optimizer?: z.input<typeof OptimizerSchema>;
  /** What the backward recomputes instead of keeping it; losses stay the same, on cuda up to rounding. Default: nothing. */
  recompute?: Recompute;
  /** Of the layers' matmuls; default: the backend's own. A run that goes on must have the same. */
  precision?: MatmulPrecision;
  /**
   * Of the residual stream, where a backend holds activations in bfloat16. Default: that of the checkpoint which the run goes on
   * from, and it must be the same; in a new run fp24, with matmuls in fp8 bfloat16.
   */
  residualType?: ResidualType;
  /**
   * In what form gradients travel between processes, as `collective` was joined with; default float32. A run that goes on must
   * have the same.
   */
  reduceType?: ReduceType;
  /** Determines the initial weights; default 0. */
  seed?: number;
  /** A checkpoint directory whose weights the run starts from, and what of its configuration may differ. */
  startFrom?: string | Start | undefined;
  /** The run's directory: checkpoints/ and metrics.jsonl. Without it, nothing is written. */
  directory?: string | undefined;
  /** Write TensorBoard's event files into the directory's tensorboard/ too. */
  tensorboard?: boolean;
  /** Go on from the directory's newest checkpoint, if there is one. */
  resume?: boolean;
  /**
   * Check the checksums of the checkpoint that the run goes on or starts from; default true. Of several processes one on each
   * machine is enough: the others wait for it.
   */
  verify?: boolean;
  checkpoints?: { everySteps?: number; keepLast?: number; keepBest?: boolean };
  /** Copied into the checkpoints. */
  tokenizer?: SavedTokenizer | undefined;
  /** What else a resumed run must agree in, as plain JSON, such as the tokenizer's hash. */
  identity?: Record<string, unknown>;
  /**
   * What the bits of results depend on (`SelectedBackend.arithmetic`): saved in the checkpoints, and a run that goes on
   * from one with another says so.
   */
  arithmetic?: string | undefined;
  validation?:
    | {
        everySteps: number;
        /** The validation loss, in nats per token. */
        loss: (model: LlamaModel) => Promise<number>;
        /** Packed tokens over which it is measured how far back each layer looks; default: that is not measured. */
        sample?: Pick<TokenBatch, 'tokens' | 'cuSeqlens'>;
      }
    | undefined;
  /** Texts that the model writes every few steps, into the directory's samples.jsonl. */
  samples?: Sampling | undefined;
  evaluation?: Evaluation | undefined;
  /** The run stops after this many steps in a row whose loss or gradient was not finite; default 5. */
  maxNonFiniteSteps?: number;
  hooks?: TrainHooks;
  /** When aborted, the run saves and returns as soon as the current micro-batch is done. */
  signal?: AbortSignal;
  /** The processes that share the run; default: this one alone. */
  collective?: Collective;
}

/** Called as a run proceeds; if a hook returns a promise, the run waits for it. */
export interface TrainHooks {
  /**
   * Called before the first step.
   *
   * @param resumedFrom the run's own checkpoint that it goes on from
   * @param startedFrom the checkpoint whose weights it starts with
   */
  onStart?(
    model: LlamaModel,
    state: TrainingState,
    resumedFrom: string | undefined,
    startedFrom: string | undefined,
  ): void | Promise<void>;
  /** Called after every optimizer step. */
  onStep?(metrics: StepMetrics, model: LlamaModel): void | Promise<void>;
  /** Called after every validation. */
  onValidation?(metrics: ValidationMetrics, model: LlamaModel): void | Promise<void>;
  /** Called with each text that the model wrote. */
  onSample?(sample: Sample): void | Promise<void>;
  /** Called after every evaluation on tasks. */
  onEvaluation?(metrics: EvaluationMetrics, model: LlamaModel): void | Promise<void>;
  /** Called while one goes on, with how far it is. */
  onEvaluating?(done: number, total: number, what: string): void;
  /** Called after a checkpoint has been written, with its directory. */
  onCheckpoint?(directory: string): void | Promise<void>;
  /** One line about something out of the ordinary. */
  onNotice?(line: string): void;
}

/** What `train` returns. */
export interface TrainResult {
  /** False if `signal` ended the run. */
  finished: boolean;
  /** The trained model; the caller disposes of it. */
  model: LlamaModel;
  state: TrainingState;
  /** the newest checkpoint */
  checkpoint: string | undefined;
}
