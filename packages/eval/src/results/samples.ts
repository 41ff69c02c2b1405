/** Samples: a line for every document and filter, as lm-evaluation-harness writes them and leaderboards read them. */
import { basename } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import type { TaskOutcome } from '../runner/run.js';
import type { Row, TaskDefinition } from '../tasks/definition.js';
import { documentHashes } from '../tasks/hashes.js';
import { type DocumentScore, kindOf, scoreDocument } from '../tasks/scores.js';
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
  return `${value}`;
}

function argumentsOf(request: RequestOf<RequestKind>): Record<string, unknown> {
  if ('text' in request) return { arg_0: request.text };
  return { arg_0: request.context, arg_1: 'settings' in request ? request.settings : request.continuation };
}

/** A document of a samples file, scored again. */
export interface ReadSamples {
  task: string;
  documents: readonly { row: Row; answers: readonly AnswerOf<RequestKind>[] }[];
}

interface SampleLine {
  doc_id: number;
  doc: Row;
  task?: string;
  resps?: unknown[][];
  answers?: Bare[];
}

/**
 * Reads a samples file, this program's or the harness's.
 *
 * @throws UserError where a line is no sample
 */
export function readSamples(path: string, definitionOf: (task: string) => TaskDefinition): ReadSamples {
  const lines = readLines(path);
  const named = lines[0]!.task ?? /^samples_(.+?)_\d{4}-\d\d-\d\dT/.exec(basename(path))?.[1];
  if (named === undefined) {
    throw new UserError(`${shown(path)} names no task; call the file samples_<task>_<time>.jsonl, as it was written.`);
  }
  const kind = kindOf(definitionOf(named));
  const seen = new Set<number>();
  const documents = lines.flatMap(({ doc_id, doc, resps, answers }, i) => {
    // A line for each filter; the answers are the same.
    if (seen.has(doc_id)) return [];
    seen.add(doc_id);
    const given = answers ?? resps?.map(([first]) => first as Bare);
    if (!given || typeof doc !== 'object') throw new UserError(`${shown(path)}, line ${i + 1}: this is no sample.`);
    return [{ row: doc, answers: given.map((one) => answerOf(kind, one, `${shown(path)}, line ${i + 1}`)) }];
  });
  return { task: named, documents };
}

/** The scores of documents that were read. */
export function scoreSamples(definition: TaskDefinition, { documents }: ReadSamples): DocumentScore[] {
  return documents.map(({ row, answers }) => scoreDocument(definition, { row }, answers));
}

function readLines(path: string): SampleLine[] {
  const lines = readJsonLines(path);
  if (lines.length === 0) throw new UserError(`${shown(path)} holds no sample.`);
  return lines.map(({ json }) => json as SampleLine);
}

function answerOf(kind: RequestKind, given: Bare, where: string): AnswerOf<RequestKind> {
  if (kind === 'generate_until') return { text: `${given}` };
  const [first, second] = [given].flat();
  const value = Number(first);
  if (first === undefined || first === null || !Number.isFinite(value)) {
    throw new UserError(`${where}: the answer is ${shown(JSON.stringify(given))}; expected a log-likelihood.`);
  }
  if (kind === 'loglikelihood_rolling') return { losses: Float64Array.of(-value) };
  const isGreedy =
    second === undefined || second === null || `${second}` === 'None'
      ? undefined
      : `${second}`.toLowerCase() === 'true';
  return { logLikelihood: value, isGreedy };
}
