// Scores of the model on tasks as a run goes. What a task is, and how it is asked, is another package's affair, which the
// command is given (docs/decisions.md): training imports nothing of it.
import { UserError } from '@stickbreaking/base';
import type { Tokenizer } from '@stickbreaking/data';
import type { LlamaModel } from '@stickbreaking/model';
import type { Collective } from './collective.js';
import type { TaskScore } from './metrics.js';
import type { RunConfig } from './run_config.js';

/** What scores a model on tasks. */
export interface TaskScorer {
  /**
   * The figures of the model as it is now; with `share` the same in every process.
   *
   * @throws what `signal` was aborted with
   */
  scores(
    model: LlamaModel,
    options: {
      signal?: AbortSignal | undefined;
      /** The processes that share the work, and this one's part; absent where there is one. */
      share?: { index: number; count: number; sum(numbers: readonly number[]): Promise<readonly number[]> } | undefined;
      /** Told how much of the work is done, of how much, and in which unit, such as `tokens scored`. */
      onProgress?: (done: number, total: number, what: string) => void;
    },
  ): Promise<TaskScore[]>;
}

/** What a scorer is opened for. */
export interface TaskScorerOptions {
  tasks: string | readonly string[];
  dataDir: string | undefined;
  limit: number | undefined;
  numFewshot: number | undefined;
  tokenizer: Tokenizer;
  maxLength: number;
}

/** Finds the data of tasks and builds their requests, before the run begins. */
export type OpenTaskScorer = (options: TaskScorerOptions) => Promise<TaskScorer>;

/** What `train` does every few steps. */
export interface Evaluation {
  everySteps: number;
  /**
   * The figures of the model as it is now, the same in every process.
   *
   * @throws what `signal` was aborted with, where one process trains alone: several are not stopped in an evaluation
   */
  scores(
    model: LlamaModel,
    options: { signal?: AbortSignal | undefined; onProgress?: (done: number, total: number, what: string) => void },
  ): Promise<TaskScore[]>;
}

/**
 * The evaluation that a run's file asks for.
 *
 * @throws UserError where nothing here scores tasks, or their data is not there
 */
export async function openEvaluation(
  { evaluation, model }: RunConfig,
  tokenizer: Tokenizer,
  open: OpenTaskScorer | undefined,
  collective: Collective | undefined,
): Promise<Evaluation | undefined> {
  if (!evaluation) return undefined;
  if (!open) {
    throw new UserError(
      'evaluation: tasks are scored by the package @stickbreaking/eval, which is not installed here; install stickbreaking, which brings it, or take the section out.',
    );
  }
  const { everySteps, tasks, dataDir, limit, numFewshot } = evaluation;
  const scorer = await open({ tasks, dataDir, limit, numFewshot, tokenizer, maxLength: model.contextLength });
  const { rank: index, size: count } = collective ?? { rank: 0, size: 1 };
  if (!collective || count === 1) return { everySteps, scores: (scored, options) => scorer.scores(scored, options) };
  const share = { index, count, sum: (numbers: readonly number[]) => collective.sumNumbers(numbers) };
  // One process that stopped on its own would leave the others waiting for it.
  return {
    everySteps,
    scores: (scored, { onProgress }) => scorer.scores(scored, { share, ...(onProgress ? { onProgress } : {}) }),
  };
}
