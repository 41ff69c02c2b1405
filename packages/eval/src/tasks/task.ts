/**
 * What an evaluation is: examples, the requests made of a model about each, and the scores of the answers. A task does
 * not know the model, and what answers a kind of request does not know the task. The terms are those of
 * lm-evaluation-harness.
 */

/** The kinds of requests, and their answers. */
export interface RequestKinds {
  /** How likely is a whole text? The answer is the loss of each of its tokens in nats, in order. */
  loglikelihood_rolling: { request: { text: string }; answer: { losses: Float64Array } };
}

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

/**
 * The figures of a task, from the answers to all of its requests.
 *
 * @param answers one for each request, in the order of `requestsOf`
 */
export function scoreTask<Kind extends RequestKind, Example, Score, Result>(
  task: Task<Kind, Example, Score, Result>,
  answers: readonly AnswerOf<Kind>[],
): Result {
  let next = 0;
  const scores = task.examples.map((example) => {
    const own = answers.slice(next, next + task.requests(example).length);
    next += own.length;
    return task.score(example, own);
  });
  return task.summarise(scores);
}
