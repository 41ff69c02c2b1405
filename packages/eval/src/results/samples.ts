/** Samples: a line for every document and filter, as lm-evaluation-harness writes them and leaderboards read them. */
import { basename } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { floatText } from '../python/text.js';
import type { TaskOutcome } from '../runner/run.js';
import type { Row, TaskDefinition } from '../tasks/definition.js';
import { documentHashes } from '../tasks/hashes.js';
import { placed } from '../tasks/rows.js';
import { answerCount, type DocumentScore, kindOf, scoreDocument } from '../tasks/scores.js';
import type { AnswerOf, RequestKind, RequestOf } from '../tasks/task.js';
import { readJsonLines } from './json_lines.js';

/** The lines of a task; `answers` holds as numbers what the harness writes as text. */
export function sampleLines({ task, scores, answers }: TaskOutcome): string[] {
  return task.examples.flatMap((document, d) => {
    const hashes = documentHashes(document);
    const own = answers[d]!.map(bare);
    return Object.entries(scores[d]!).map(([filter, { answers: filtered, metrics }]) =>
      JSON.stringify({
        doc_id: document.id,
        doc: document.row,
        target: `${document.target}`,
        arguments: Object.fromEntries(document.requests.map((request, r) => [`gen_args_${r}`, argumentsOf(request)])),
        resps: own.map((answer) => [asText(answer)]),
        filtered_resps: filtered.map(asText),
        filter,
        metrics: Object.keys(metrics),
        doc_hash: hashes.document,
        prompt_hash: hashes.prompt,
        target_hash: hashes.target,
        ...metrics,
        task: task.name,
        answers: own,
      }),
    );
  });
}

type Bare = number | string | (number | boolean | null)[];

function bare(answer: AnswerOf<RequestKind>): Bare {
  if ('text' in answer) return answer.text;
  if ('losses' in answer) return [...answer.losses].reduce((sum, loss) => sum - loss, 0);
  return [answer.logLikelihood, answer.isGreedy ?? null];
}

/** As Python prints it. */
function asText(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asText);
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return floatText(value);
  return `${value}`;
}

function argumentsOf(request: RequestOf<RequestKind>): Record<string, unknown> {
  if ('text' in request) return { arg_0: request.text };
  return { arg_0: request.context, arg_1: 'settings' in request ? request.settings : request.continuation };
}

/** A document of a samples file, scored again. */
export interface ReadSamples {
  task: string;
  documents: readonly { row: Row; answers: readonly AnswerOf<RequestKind>[]; where: string }[];
}

const LineSchema = z.looseObject({
  doc_id: z.int(),
  doc: z.record(z.string(), z.unknown()),
  task: z.string().optional(),
  resps: z.array(z.array(z.unknown()).min(1)).optional(),
  answers: z.array(z.unknown()).optional(),
});

/**
 * Reads a samples file, this program's or the harness's.
 *
 * @throws UserError where a line is no sample, or of another task than the first
 */
export function readSamples(path: string, definitionOf: (task: string) => TaskDefinition): ReadSamples {
  const lines = readJsonLines(path).map(({ json, where }) => {
    const { data } = LineSchema.safeParse(json);
    const given = data?.answers ?? data?.resps?.map(([first]) => first);
    if (!given) throw new UserError(`${where}: this is no sample.`);
    return { ...data!, given, where };
  });
  if (lines.length === 0) throw new UserError(`${shown(path)} holds no sample.`);
  const named = lines[0]!.task ?? /^samples_(.+?)_\d{4}-\d\d-\d\dT/.exec(basename(path))?.[1];
  if (named === undefined) {
    throw new UserError(`${shown(path)} names no task; call the file samples_<task>_<time>.jsonl, as it was written.`);
  }
  const kind = kindOf(definitionOf(named));
  const seen = new Set<number>();
  const documents = lines.flatMap(({ doc_id, doc, task = named, given, where }) => {
    if (task !== named) throw new UserError(`${where}: this is of '${shown(task)}', not of '${shown(named)}'.`);
    // A line for each filter; the answers are the same.
    if (seen.has(doc_id)) return [];
    seen.add(doc_id);
    return [{ row: doc, answers: given.map((one) => answerOf(kind, one, where)), where }];
  });
  return { task: named, documents };
}

/** The scores of documents that were read. @throws UserError where the answers are not those of the document */
export function scoreSamples(definition: TaskDefinition, { documents }: ReadSamples): DocumentScore[] {
  return documents.map(({ row, answers, where }) =>
    placed(where, () => {
      const expected = answerCount(definition, row);
      if (answers.length !== expected)
        throw new UserError(`it has ${answers.length} answers; ${definition.name} asks ${expected} of this document.`);
      return scoreDocument(definition, { row }, answers);
    }),
  );
}

function answerOf(kind: RequestKind, given: unknown, where: string): AnswerOf<RequestKind> {
  const wrong = (expected: string) =>
    new UserError(`${where}: the answer is ${shown(JSON.stringify(given) ?? 'missing')}; expected ${expected}.`);
  if (kind === 'generate_until') {
    if (typeof given === 'string') return { text: given };
    throw wrong('text');
  }
  const [first, second] = [given].flat() as unknown[];
  // The harness writes numbers as text.
  const value = typeof first === 'string' && first.trim() !== '' ? Number(first) : first;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong('a log-likelihood');
  if (kind === 'loglikelihood_rolling') return { losses: Float64Array.of(-value) };
  const isGreedy =
    second === undefined || second === null || `${second}` === 'None'
      ? undefined
      : `${second}`.toLowerCase() === 'true';
  return { logLikelihood: value, isGreedy };
}
