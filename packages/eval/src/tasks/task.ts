/**
 * What an evaluation is: examples, what is asked of a model about each, and what the answers are worth. A task does not
 * know the model, and what answers a kind of request does not know the task. Names are those of lm-evaluation-harness.
 */

/** What may be asked, and how it is answered. */
export interface RequestKinds {
  /** How likely is a whole text? The answer is the loss of each of its tokens in nats, in order. */
  loglikelihood_rolling: { request: { text: string }; answer: { losses: Float64Array } };
}

export type RequestKind = keyof RequestKinds;
export type RequestOf<Kind extends RequestKind> = RequestKinds[Kind]['request'];
export type AnswerOf<Kind extends RequestKind> = RequestKinds[Kind]['answer'];

/** One task; `Score` is what one example comes to, `Result` what all of them do. */
export interface Task<Kind extends RequestKind, Example, Score, Result> {
  readonly name: string;
  /** The kind of all its requests. */
  readonly kind: Kind;
  /** In the order of their source. */
  readonly examples: readonly Example[];
  /** What is asked about one example, such as one request for each choice. */
  requests(example: Example): readonly RequestOf<Kind>[];
  /** What the answers to an example's requests are worth, in the same order. */
  score(example: Example, answers: readonly AnswerOf<Kind>[]): Score;
  /** The figures of the task, of all its examples' scores. */
  summarise(scores: readonly Score[]): Result;
}

/** All requests of a task, example by example. */
export function requestsOf<Kind extends RequestKind, Example>(
  task: Task<Kind, Example, unknown, unknown>,
): RequestOf<Kind>[] {
  return task.examples.flatMap((example) => [...task.requests(example)]);
}

/** @param answers one to each request, in the order of `requestsOf` */
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
