/** Tasks of `sb-eval`, on which every trained model of a comparison is scored. */
import { Evaluator } from '@stickbreaking/eval';
import type { LlamaModel } from '@stickbreaking/model';
import { z } from 'zod';
import type { ArmContext } from '../study.js';
import type { PreparedText } from '../text/text.js';
import type { TrainedModel } from '../text/train.js';

/** As in a run's `evaluation`. */
export const tasksSchema = {
  /** Names of tasks and groups, globs, and task files. */
  tasks: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).optional(),
  /** The folder of their data sets; default: what STICKBREAKING_DATA names. */
  dataDir: z.string().min(1).optional(),
  /** Only the first documents of each task: a number of them, or a share below 1. */
  limit: z.number().positive().optional(),
  /** Examples before each question; default: the task's own. */
  numFewshot: z.int().nonnegative().optional(),
};

export const TaskScoresSchema = z.array(
  z.object({
    task: z.string(),
    metric: z.string(),
    filter: z.string(),
    value: z.number(),
    standardError: z.number().nullable(),
  }),
);

export type TaskScores = z.infer<typeof TaskScoresSchema>;

interface Asked {
  tasks?: string | string[] | undefined;
  dataDir?: string | undefined;
  limit?: number | undefined;
  numFewshot?: number | undefined;
}

/**
 * Opens tasks for models of a context length, before any is trained.
 *
 * @throws UserError that names a task which there is not, or data that is missing
 */
export async function openTasks(
  { tasks, dataDir, limit, numFewshot }: Asked,
  { tokenizer }: PreparedText,
  maxLength: number,
): Promise<Evaluator | undefined> {
  return tasks === undefined ? undefined : Evaluator.open({ tasks, dataDir, limit, numFewshot, tokenizer, maxLength });
}

/** The trained model with its scores, if any were asked for; undefined when the signal stopped that or the training. */
export async function withScores(
  trained: TrainedModel | undefined,
  evaluator: Evaluator | undefined,
  context: ArmContext,
): Promise<{ model: LlamaModel; result: TrainedModel['result'] & { scores?: TaskScores } } | undefined> {
  if (!trained || !evaluator) return trained;
  try {
    const scores = await scoresOf(evaluator, trained.model, context);
    return { ...trained, result: { ...trained.result, scores } };
  } catch (error) {
    trained.model.dispose();
    if (context.signal.aborted) return undefined;
    throw error;
  }
}

const scoresOf = (evaluator: Evaluator, model: LlamaModel, { signal, say }: ArmContext): Promise<TaskScores> =>
  evaluator.scores(model, { signal, onProgress: (done, total, what) => say(`${what}: ${done} of ${total}`) });
