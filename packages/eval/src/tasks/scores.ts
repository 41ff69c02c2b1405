/** What the answers about a document are worth, and the figures of a task. */
import { ownValue } from '@stickbreaking/base';
import { countPieces, length } from '../python/text.js';
import type {
  GenerationDefinition,
  MultipleChoiceDefinition,
  MultipleContextDefinition,
  RollingDefinition,
  Row,
  TaskDefinition,
} from './definition.js';
import { bitsPerByte, mean, meanStandardError, sumOf, type Weighed, weightedPerplexity } from './statistics.js';
import type { AnswerOf, RequestKind } from './task.js';

/** What a document scored under one filter. */
export interface FilterScore {
  /** The answers as the filter leaves them. */
  answers: readonly unknown[];
  /** By metric: a number, or a log-likelihood with what it is counted in. */
  metrics: Readonly<Record<string, number | Weighed>>;
  /** See `GenerationDefinition.remark`. */
  remark?: string;
}

/** By filter; `none` where there is none. */
export type DocumentScore = Readonly<Record<string, FilterScore>>;

/** One figure of a task. */
export interface TaskFigure {
  metric: string;
  filter: string;
  value: number;
  /** undefined where none is known: of a single document, or of a perplexity. */
  standardError: number | undefined;
  higherIsBetter: boolean;
}

/** The figures of a task. */
export interface TaskResult {
  documents: number;
  figures: readonly TaskFigure[];
  /** How many documents have a remark. */
  remarks?: Readonly<Record<string, number>>;
}

/** The kind of requests that a definition makes. */
export function kindOf({ kind }: TaskDefinition): RequestKind {
  return kind === 'generate_until' || kind === 'loglikelihood_rolling' ? kind : 'loglikelihood';
}

/** How many answers a document has. */
export function answerCount(definition: TaskDefinition, row: Row): number {
  if (definition.kind === 'multiple_choice') return definition.choices(row).length;
  return definition.kind === 'multiple_context' ? definition.contexts(row).length : 1;
}

export function scoreDocument(
  definition: TaskDefinition,
  document: { row: Row },
  answers: readonly AnswerOf<RequestKind>[],
): DocumentScore {
  switch (definition.kind) {
    case 'multiple_choice':
    case 'multiple_context':
      return { none: scoreChoices(definition, document, answers as AnswerOf<'loglikelihood'>[]) };
    case 'generate_until':
      return scoreGeneration(definition, document, (answers as AnswerOf<'generate_until'>[])[0]!.text);
    case 'loglikelihood_rolling':
      return { none: scoreText(definition, document, (answers as AnswerOf<'loglikelihood_rolling'>[])[0]!) };
  }
}

function scoreChoices(
  definition: MultipleChoiceDefinition | MultipleContextDefinition,
  { row }: { row: Row },
  answers: readonly AnswerOf<'loglikelihood'>[],
): FilterScore {
  const choices = definition.kind === 'multiple_choice' ? definition.choices(row) : definition.contexts(row);
  const likelihoods = answers.map(({ logLikelihood }) => logLikelihood);
  const gold = definition.gold(row);
  const right = (values: readonly number[]) => (firstLargest(values) === gold ? 1 : 0);
  const figures = {
    acc: () => right(likelihoods),
    acc_norm: () => right(likelihoods.map((value, i) => value / length(choices[i]!))),
    acc_bytes: () => right(likelihoods.map((value, i) => value / Buffer.byteLength(choices[i]!))),
  };
  const metrics = Object.fromEntries(definition.metrics.map((metric) => [metric, figures[metric]()]));
  return { answers: answers.map(({ logLikelihood, isGreedy }) => [logLikelihood, isGreedy]), metrics };
}

function firstLargest(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

function scoreGeneration(definition: GenerationDefinition, { row }: { row: Row }, text: string): DocumentScore {
  const remark = definition.remark?.(text, row);
  return Object.fromEntries(
    definition.filters.map(({ name, apply }) => {
      const answer = apply(text);
      const metrics = definition.metrics.map((metric) => [metric.name, metric.score(answer, row)] as const);
      return [
        name,
        { answers: [answer], metrics: Object.fromEntries(metrics), ...(remark === undefined ? {} : { remark }) },
      ];
    }),
  );
}

function scoreText(
  definition: RollingDefinition,
  { row }: { row: Row },
  { losses }: AnswerOf<'loglikelihood_rolling'>,
): FilterScore {
  const logLikelihood = -sumOf([...losses]);
  const original = definition.original(row);
  const bytes: Weighed = [logLikelihood, Buffer.byteLength(original)];
  const metrics = {
    word_perplexity: [logLikelihood, countPieces(original)] as const,
    byte_perplexity: bytes,
    bits_per_byte: bytes,
  };
  return { answers: [logLikelihood], metrics };
}

/** The figures of a task, metric by metric and filter by filter. */
export function summarise(definition: TaskDefinition, scores: readonly DocumentScore[]): TaskResult {
  const filters = definition.kind === 'generate_until' ? definition.filters.map(({ name }) => name) : ['none'];
  const figures = filters.flatMap((filter) =>
    metricsOf(definition).map(({ name, higherIsBetter, leftOut }): TaskFigure => {
      const values = scores.map((score) => score[filter]!.metrics[name]!);
      const figure = leftOut === undefined ? figureOf(name, values) : meanWithout(leftOut, values as number[]);
      return { metric: name, filter, higherIsBetter, ...figure };
    }),
  );
  const remarks: Record<string, number> = {};
  for (const score of scores) {
    const { remark } = score[filters[0]!]!;
    if (remark !== undefined) remarks[remark] = (remarks[remark] ?? 0) + 1;
  }
  // A perplexity by words is e to the loss of a word, which may be a page without a space.
  for (const { metric, value } of figures)
    if (value === Number.POSITIVE_INFINITY) remarks[`make ${metric} larger than any number`] = scores.length;
  return { documents: scores.length, figures, ...(Object.keys(remarks).length === 0 ? {} : { remarks }) };
}

/** The metrics of a task in the order of tables. */
export function metricsOf(
  definition: TaskDefinition,
): { name: string; higherIsBetter: boolean; leftOut?: number | undefined }[] {
  switch (definition.kind) {
    case 'generate_until':
      return definition.metrics.map(({ name, higherIsBetter, leftOut }) => ({ name, higherIsBetter, leftOut }));
    case 'loglikelihood_rolling':
      return ['word_perplexity', 'byte_perplexity', 'bits_per_byte'].map((name) => ({ name, higherIsBetter: false }));
    default:
      return definition.metrics.map((name) => ({ name, higherIsBetter: true }));
  }
}

const ofWeighed: Readonly<Record<string, (items: readonly Weighed[]) => number>> = {
  word_perplexity: weightedPerplexity,
  byte_perplexity: weightedPerplexity,
  bits_per_byte: bitsPerByte,
};

function figureOf(metric: string, values: readonly (number | Weighed)[]): Pick<TaskFigure, 'value' | 'standardError'> {
  const weighed = ownValue(ofWeighed, metric);
  if (weighed) return { value: weighed(values as Weighed[]), standardError: undefined };
  const numbers = values as number[];
  return { value: mean(numbers), standardError: meanStandardError(numbers) };
}

/** As the harness has it: nothing to average is −1. */
function meanWithout(leftOut: number, values: readonly number[]): Pick<TaskFigure, 'value' | 'standardError'> {
  const counted = values.filter((value) => value !== leftOut);
  return { value: counted.length === 0 ? -1 : mean(counted), standardError: undefined };
}
