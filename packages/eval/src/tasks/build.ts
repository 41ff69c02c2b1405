/** Makes a task of a definition and of rows: the requests of every document, and the figures of the answers. */
import { UserError } from '@stickbreaking/base';
import type { GenerationDefinition, Row, TaskDefinition } from './definition.js';
import { type ShotSampler, shotSampler } from './fewshot.js';
import { placed } from './rows.js';
import { type DocumentScore, kindOf, scoreDocument, summarise, type TaskResult } from './scores.js';
import type { GenerationSettings, RequestKind, RequestOf, Task } from './task.js';

/** A document with all that is asked about it. */
export interface BuiltDocument {
  /** Its place among the rows of the split. */
  id: number;
  row: Row;
  /** What is right: the index of a choice, or a text. */
  target: string | number;
  requests: readonly RequestOf<RequestKind>[];
}

/** A task of the suite, ready to be asked. */
export interface BuiltTask extends Task<RequestKind, BuiltDocument, DocumentScore, TaskResult> {
  readonly definition: TaskDefinition;
  /** Examples before each question. */
  readonly numFewshot: number;
  /** What every prompt begins with: the description, and examples that are the same for all. */
  readonly sharedBeginning: string;
  /** Documents of the split, of which `examples` may be a part. */
  readonly documentsInSplit: number;
}

/** The rows of a task's data set. */
export interface TaskRows {
  /** Of the scored split, in file order. */
  documents: readonly Row[];
  /** Of the split that shots come from. */
  pool?: readonly Row[];
}

/** What may differ from run to run. */
export interface BuildOptions {
  /** Examples before each question, in place of the definition's; a task without examples keeps none. */
  numFewshot?: number | undefined;
  /** Only the first documents: a number of them, or a share below 1. */
  limit?: number | undefined;
  /** Only these documents, by number. */
  samples?: readonly number[] | undefined;
  /** Of the generator that draws examples; default 1234. */
  seed?: number | undefined;
  /** In place of the definition's. */
  settings?: Partial<GenerationSettings> | undefined;
}

/** How many examples a task has before each question. */
export function numFewshotOf({ shots }: TaskDefinition, asked: number | undefined): number {
  if (!shots) return 0;
  return asked ?? shots.count ?? 0;
}

/**
 * Builds all requests of a task, in the harness's order.
 *
 * @throws UserError where a row lacks a column, or there are fewer examples than asked for
 */
export function buildTask(definition: TaskDefinition, rows: TaskRows, options: BuildOptions = {}): BuiltTask {
  const { adapt = same, process = same } = definition;
  const numFewshot = numFewshotOf(definition, options.numFewshot);
  const ready = (row: Row) => process(adapt(row));
  const shots = samplerOf(definition, rows, numFewshot, options.seed ?? 1234);
  const shotOf = shotTexts(definition, ready);
  const { description = '' } = definition;
  const fixed = definition.shots?.sampler === 'first_n' && !definition.shots.drawsOneMore;
  const begin = (row: Row) => [description, ...shots.next(row).map(shotOf)].join('');
  const shared = fixed ? begin({}) : description;
  const examples = chosen(definition.name, rows.documents, options).map(({ id, row }) =>
    placed(`${definition.name}, document ${id + 1}`, () => {
      checkColumns(definition, adapt(row));
      const before = fixed ? shared : begin(row);
      const made = ready(row);
      return {
        id,
        row: made,
        target: targetOf(definition, made),
        requests: requestsAbout(definition, made, before, options),
      };
    }),
  );
  refuseEmptyTexts(definition, examples);
  return {
    definition,
    name: definition.name,
    kind: kindOf(definition),
    numFewshot,
    sharedBeginning: shared,
    documentsInSplit: rows.documents.length,
    examples,
    requests: (document) => document.requests,
    score: (document, answers) => scoreDocument(definition, document, answers),
    summarise: (scores) => summarise(definition, scores),
  };
}

/** Of no bytes there is no perplexity; the harness divides by zero there. */
function refuseEmptyTexts(definition: TaskDefinition, documents: readonly BuiltDocument[]): void {
  if (definition.kind !== 'loglikelihood_rolling' || documents.length === 0) return;
  if (documents.some(({ row }) => definition.original(row) !== '')) return;
  throw new UserError(`${definition.name}: every text is empty, so there is nothing to score; see its doc_to_target.`);
}

const same = (row: Row) => row;

function samplerOf(definition: TaskDefinition, rows: TaskRows, count: number, seed: number): ShotSampler<Row> {
  const { shots, name } = definition;
  if (!shots || count === 0) return { next: () => [] };
  const pool = typeof shots.from === 'string' ? (rows.pool ?? []) : shots.from;
  const written = (row: Row) => JSON.stringify(row);
  return shotSampler({
    sampler: shots.sampler,
    pool,
    count,
    seed,
    drawsOneMore: shots.drawsOneMore ?? false,
    same: (a, b) => written(a) === written(b),
    task: name,
  });
}

/** The documents that are scored, with their numbers. */
function chosen(task: string, rows: readonly Row[], { limit, samples }: BuildOptions): { id: number; row: Row }[] {
  const all = rows.map((row, id) => ({ id, row }));
  if (samples) {
    const beyond = samples.find((id) => !(Number.isInteger(id) && id >= 0 && id < rows.length));
    if (beyond !== undefined) {
      throw new UserError(`${task} has no document ${beyond}; its ${rows.length} documents are counted from 0.`);
    }
    const wanted = new Set(samples);
    return all.filter(({ id }) => wanted.has(id));
  }
  if (limit === undefined) return all;
  return all.slice(0, limit < 1 ? Math.ceil(limit * rows.length) : limit);
}

function checkColumns({ columns }: TaskDefinition, row: Row): void {
  const missing = columns.find((column) => !Object.hasOwn(row, column));
  if (missing === undefined) return;
  const found = Object.keys(row).join(', ') || 'none';
  throw new UserError(
    `there is no column '${missing}'; the task reads ${columns.join(', ')}, and the row has ${found}.`,
  );
}

/** What one example says, up to the next. */
function shotTexts(definition: TaskDefinition, ready: (row: Row) => Row): (row: Row) => string {
  const { targetDelimiter = ' ', fewshotDelimiter = '\n\n' } = definition;
  const answered = (text: string, answer: string) => text + targetDelimiter + answer + fewshotDelimiter;
  switch (definition.kind) {
    case 'multiple_choice':
      return (raw) => {
        const row = ready(raw);
        return answered(definition.text(row), definition.choices(row)[definition.gold(row)]!);
      };
    case 'multiple_context':
      return (raw) => {
        const row = ready(raw);
        return answered(definition.contexts(row)[definition.gold(row)]!, definition.continuation(row));
      };
    case 'generate_until': {
      const fixed = typeof definition.shots?.from !== 'string';
      const { shotTarget = definition.target } = definition;
      return (raw) => {
        const row = fixed ? raw : ready(raw);
        return answered(definition.text(row), shotTarget(row));
      };
    }
    case 'loglikelihood_rolling':
      return (raw) => answered('', definition.text(ready(raw)));
  }
}

function targetOf(definition: TaskDefinition, row: Row): string | number {
  switch (definition.kind) {
    case 'multiple_choice':
      return definition.gold(row);
    case 'multiple_context':
      return definition.continuation(row);
    case 'generate_until':
      return definition.target(row);
    case 'loglikelihood_rolling':
      return definition.text(row);
  }
}

function requestsAbout(
  definition: TaskDefinition,
  row: Row,
  before: string,
  options: BuildOptions,
): RequestOf<RequestKind>[] {
  const { targetDelimiter = ' ' } = definition;
  switch (definition.kind) {
    case 'multiple_choice': {
      const context = before + definition.text(row);
      const choices = definition.choices(row);
      checkGold(definition.gold(row), choices.length);
      return choices.map((choice) => ({ context, continuation: targetDelimiter + choice }));
    }
    case 'multiple_context': {
      const continuation = targetDelimiter + definition.continuation(row);
      const contexts = definition.contexts(row);
      checkGold(definition.gold(row), contexts.length);
      return contexts.map((context) => ({ context: before + context, continuation }));
    }
    case 'generate_until':
      return [{ context: before + definition.text(row), settings: settingsOf(definition, options.settings) }];
    case 'loglikelihood_rolling':
      return [{ text: definition.text(row) }];
  }
}

function checkGold(gold: number, choices: number): void {
  if (gold >= 0 && gold < choices) return;
  throw new UserError(`the answer is choice ${gold + 1} of ${choices}.`);
}

/** The harness's defaults, under what the task says, under what the user says. */
export function settingsOf(
  { settings }: Pick<GenerationDefinition, 'settings'>,
  asked: Partial<GenerationSettings> = {},
): GenerationSettings {
  const given = { ...settings, ...asked };
  const do_sample = given.do_sample ?? (given.temperature ?? 0) > 0;
  const { until = [], max_gen_toks = 256, temperature = 1 } = given;
  return { ...given, until, max_gen_toks, do_sample, temperature: do_sample ? temperature : 0 };
}
