/**
 * What a task of the suite is made of: where its documents are, how a document becomes text, and how an answer is
 * scored. A definition holds no data and no model; `buildTask` makes a `Task` of it and of rows. The fields are those of
 * lm-evaluation-harness's task files.
 */
import type { GenerationSettings } from './task.js';

/** A row of a data set. */
export type Row = Readonly<Record<string, unknown>>;

/** A data set as the Hugging Face Hub names it. */
export interface DatasetName {
  /** Such as `allenai/ai2_arc`. */
  path: string;
  /** Its configuration, such as `ARC-Easy`; undefined where it has one only. */
  name?: string;
}

/** The fields of every definition. */
interface CommonDefinition {
  name: string;
  /** What tables call it; default `name`. */
  alias?: string;
  /** As the harness numbers the task; a result is compared with results of the same number. */
  version: number;
  dataset: DatasetName;
  /** The split whose documents are scored. */
  split: string;
  /** Columns that `text` and the others read. */
  columns: readonly string[];
  /** Files of splits, where the task names them itself; else they are found by the data set's name. */
  files?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Stands before the first example. */
  description?: string;
  /** Between a question and its answer; default a space. */
  targetDelimiter?: string;
  /** Between examples; default a blank line. */
  fewshotDelimiter?: string;
  /** Files of splits as the authors publish them, under the data set's folder; globs. */
  released?: Readonly<Record<string, readonly string[]>>;
  /** Makes the rows of the scored split, for tasks whose texts are written rather than found. */
  write?(tools: WritingTools): Promise<Row[]>;
  /** Puts a row of the original release into the columns of the Hub. */
  adapt?(row: Row): Row;
  /** Rows made ready, of the scored split and of the split that shots come from. */
  process?(row: Row): Row;
  shots?: Shots;
}

/** What texts are written with. */
export interface WritingTools {
  /** Of all data sets. */
  directory: string;
  /** Tokens of a text, without a beginning token. */
  count(text: string): Promise<number>;
  /** The tokenizer puts a beginning token before a text unless told not to. */
  encodesBos: boolean;
}

/** Where the examples before a question come from. */
export interface Shots {
  /** The split they come from; or the rows themselves. */
  from: string | readonly Row[];
  /** `default` draws them at random, `first_n` takes the first ones. */
  sampler: 'default' | 'first_n';
  /** How many there are if nobody asks for another number; default 0. */
  count?: number;
  /**
   * One more is drawn and the document itself left out, as the harness does where it takes the shots' split for the
   * scored one.
   */
  drawsOneMore?: boolean;
}

/** Choices after one context: the most likely one is the answer. */
export interface MultipleChoiceDefinition extends CommonDefinition {
  kind: 'multiple_choice';
  /** What stands before a choice, without `targetDelimiter`. */
  text(row: Row): string;
  /** The continuations that are compared, without `targetDelimiter`. */
  choices(row: Row): readonly string[];
  /** The index of the right choice, from 0. */
  gold(row: Row): number;
  metrics: readonly ('acc' | 'acc_norm' | 'acc_bytes')[];
}

/** Contexts that differ, before one continuation ("partial evaluation"). */
export interface MultipleContextDefinition extends CommonDefinition {
  kind: 'multiple_context';
  /** The contexts that are compared. */
  contexts(row: Row): readonly string[];
  /** What follows each of them, without `targetDelimiter`. */
  continuation(row: Row): string;
  /** The index of the right context, from 0. */
  gold(row: Row): number;
  metrics: readonly 'acc'[];
}

/** A generated answer. */
export interface GenerationDefinition extends CommonDefinition {
  kind: 'generate_until';
  /** The prompt: what the model continues. */
  text(row: Row): string;
  /** What is right: the reference of the metrics. */
  target(row: Row): string;
  /** What a shot answers; default `target`. */
  shotTarget?(row: Row): string;
  settings: Partial<GenerationSettings>;
  /** How the answer is taken out of the generated text; each gives its own figures. */
  filters: readonly AnswerFilter[];
  metrics: readonly GenerationMetric[];
  /** What should be counted beside the figures, such as answers that could not be compared. */
  remark?(text: string, row: Row): string | undefined;
}

/** How an answer is taken out of a generated text. */
export interface AnswerFilter {
  name: string;
  /** The answer in what a model generated; where there is none, a text that is no reference. */
  apply(text: string): string;
}

/** A figure of a generated answer, averaged over documents. */
export interface GenerationMetric {
  name: string;
  higherIsBetter: boolean;
  /** A score that stands for none: such documents are left out of the mean, which then has no standard error. */
  leftOut?: number;
  /** The figure of one document, from the answer as a filter gives it. */
  score(answer: string, row: Row): number;
}

/** The perplexity of whole texts. */
export interface RollingDefinition extends CommonDefinition {
  kind: 'loglikelihood_rolling';
  /** What the model reads. */
  text(row: Row): string;
  /** What words and bytes are counted in. */
  original(row: Row): string;
}

/** A task of the suite. */
export type TaskDefinition =
  | MultipleChoiceDefinition
  | MultipleContextDefinition
  | GenerationDefinition
  | RollingDefinition;

/** Checks nothing at run time; gives a definition its type where it is written. */
export function defineTask<Definition extends TaskDefinition>(definition: Definition): Definition {
  return definition;
}

/** Several tasks under one name, with figures over all of them. */
export interface GroupDefinition {
  name: string;
  /** What tables call it; default `name`. */
  alias?: string;
  version?: number;
  /** Names of tasks and groups. */
  members: readonly string[];
  /** The figures that the group has of its tasks; none for a mere list of names. */
  aggregate?: readonly GroupMetric[];
}

/** A figure of a group. */
export interface GroupMetric {
  metric: string;
  filters: readonly string[];
  /** Tasks count by their documents; false for a plain mean. */
  weightBySize: boolean;
}
