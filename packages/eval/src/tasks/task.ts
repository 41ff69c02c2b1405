/**
 * What an evaluation is: examples, the requests made of a model about each, and the scores of the answers. A task does
 * not know the model, and what answers a kind of request does not know the task. The terms are those of
 * lm-evaluation-harness.
 */
import { z } from 'zod';

/** The kinds of requests, and their answers. */
export interface RequestKinds {
  /** How likely is a continuation after a context? */
  loglikelihood: {
    request: { context: string; continuation: string };
    answer: {
      /** Log-likelihood of the continuation's tokens together, in nats. */
      logLikelihood: number;
      /** Each of them is the model's most likely token; undefined where nobody looked. */
      isGreedy: boolean | undefined;
    };
  };
  /** How likely is a whole text? The answer is the loss of each of its tokens, or of each window of them, in nats. */
  loglikelihood_rolling: { request: { text: string }; answer: { losses: Float64Array } };
  /** How does a context go on? */
  generate_until: { request: { context: string; settings: GenerationSettings }; answer: { text: string } };
}

/** How a context is continued; the names are those of `--gen-kwargs` and of task files. */
export const GenerationSettingsSchema = z.strictObject({
  /** Texts that end the continuation and are cut off. */
  until: z.union([z.string(), z.array(z.string())]).transform((value) => [value].flat()),
  do_sample: z.boolean(),
  temperature: z.number().nonnegative(),
  max_gen_toks: z.int().positive(),
  top_k: z.int().positive(),
  top_p: z.number().positive().max(1),
});

type Settings = z.output<typeof GenerationSettingsSchema>;
/** The same, where two need not be said. */
export type GenerationSettings = Omit<Settings, 'top_k' | 'top_p'> & Partial<Pick<Settings, 'top_k' | 'top_p'>>;

/** The name of a kind of request. */
export type RequestKind = keyof RequestKinds;
/** A request of a kind. */
export type RequestOf<Kind extends RequestKind> = RequestKinds[Kind]['request'];
/** The answer to a kind of request. */
export type AnswerOf<Kind extends RequestKind> = RequestKinds[Kind]['answer'];

/** One task; `Score` is the result of one example, `Result` that of all. */
export interface Task<Kind extends RequestKind, Example, Score, Result> {
  readonly name: string;
  /** The kind of its requests, the same for all. */
  readonly kind: Kind;
  /** In the order of their source. */
  readonly examples: readonly Example[];
  /** The requests about one example, such as one for each choice. */
  requests(example: Example): readonly RequestOf<Kind>[];
  /** Scores the answers to an example's requests, which come in the same order. */
  score(example: Example, answers: readonly AnswerOf<Kind>[]): Score;
  /** The figures of the task, from the scores of all its examples. */
  summarise(scores: readonly Score[]): Result;
}

/** All requests of a task, example by example. */
export function requestsOf<Kind extends RequestKind, Example>(
  task: Task<Kind, Example, unknown, unknown>,
): RequestOf<Kind>[] {
  return task.examples.flatMap((example) => [...task.requests(example)]);
}

/** The score of each example, from the answers to all requests in the order of `requestsOf`. */
export function scoreExamples<Kind extends RequestKind, Example, Score>(
  task: Task<Kind, Example, Score, unknown>,
  answers: readonly AnswerOf<Kind>[],
): Score[] {
  let next = 0;
  return task.examples.map((example) => {
    const own = answers.slice(next, next + task.requests(example).length);
    next += own.length;
    return task.score(example, own);
  });
}

/**
 * The figures of a task, from the answers to all of its requests.
 *
 * @param answers one for each request, in the order of `requestsOf`
 */
export function scoreTask<Kind extends RequestKind, Example, Score, Result>(
  task: Task<Kind, Example, Score, Result>,
  answers: readonly AnswerOf<Kind>[],
): Result {
  return task.summarise(scoreExamples(task, answers));
}
