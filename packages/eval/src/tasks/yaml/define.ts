/** A task of the suite from the fields of a task file. */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { parseLiteral } from '../../python/literal.js';
import { pythonRegex } from '../../python/regex.js';
import { isDigits, strip } from '../../python/text.js';
import type { AnswerFilter, GenerationMetric, MultipleChoiceDefinition, Row, TaskDefinition } from '../definition.js';
import { exactMatch } from '../exact_match.js';
import { regexFilter, wholeText } from '../filters.js';
import type { TaskFile } from './schema.js';
import { templateOf } from './template.js';

/** @throws UserError that names the file and the field that cannot be had */
export function definitionOf(file: TaskFile, path: string): TaskDefinition {
  const where = (field: string) => `${shown(path)}, ${field}`;
  const split = file.test_split ?? file.validation_split;
  if (!split) throw new UserError(`${where('test_split')}: neither it nor validation_split names a split.`);
  const from =
    file.fewshot_config?.samples ?? file.fewshot_split ?? file.training_split ?? file.validation_split ?? split;
  const common = {
    name: file.task,
    ...(file.task_alias === undefined ? {} : { alias: file.task_alias }),
    version: Number(file.metadata?.version ?? 0),
    dataset: { path: file.dataset_path, ...(file.dataset_name ? { name: file.dataset_name } : {}) },
    files: filesOf(file, path),
    split,
    columns: [],
    description: file.description,
    targetDelimiter: file.target_delimiter,
    fewshotDelimiter: file.fewshot_delimiter,
    ...(file.num_fewshot === 0
      ? {}
      : {
          shots: {
            from: from as string | readonly Row[],
            sampler: file.fewshot_config?.sampler ?? 'default',
            count: file.num_fewshot ?? 0,
            // The harness compares the names as they are configured, and none equals none.
            drawsOneMore: (file.fewshot_split ?? undefined) === (file.test_split ?? undefined),
          } as const,
        }),
  };
  const text = textOf(fieldOf(file.doc_to_text, where('doc_to_text')), where('doc_to_text'));
  const target = targetOf(file, where('doc_to_target'));
  const targetText = textOf(target, where('doc_to_target'));
  switch (file.output_type) {
    case 'multiple_choice':
      return {
        kind: 'multiple_choice',
        ...common,
        text,
        ...choicesOf(file, target, where),
        metrics: choiceMetrics(file, where),
      };
    case 'generate_until':
      return {
        kind: 'generate_until',
        ...common,
        text,
        target: targetText,
        settings: { until: ['\n\n'], ...file.generation_kwargs },
        filters: filtersOf(file, where),
        metrics: (file.metric_list ?? [{ metric: 'exact_match' }]).map((one) => metricOf(one, targetText, where)),
      };
    case 'loglikelihood_rolling':
      return {
        kind: 'loglikelihood_rolling',
        ...common,
        text: targetText,
        original: targetText,
      };
  }
}

type Field = (row: Row) => unknown;

/** A field whose value is text, or a number as text. */
function textOf(field: Field, where: string): (row: Row) => string {
  return (row) => textIn(field(row), where);
}

function textIn(value: unknown, where: string): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  throw new UserError(
    `${where}: it gives ${shown(JSON.stringify(value ?? undefined) ?? 'nothing').slice(0, 60)}; expected text.`,
  );
}

/** A column by its name, or a template. */
function fieldOf(source: string, where: string): Field {
  const template = templateOf(source, where);
  return (row) => (Object.hasOwn(row, source) ? row[source] : template.render(row));
}

function targetOf(file: TaskFile, where: string): Field {
  const { doc_to_target: target, doc_to_choice: choice } = file;
  if (target === undefined) throw new UserError(`${where} is missing.`);
  if (typeof target === 'number') return () => target;
  const template = templateOf(target, where);
  return (row) => {
    if (Object.hasOwn(row, target)) return row[target];
    if (choice === undefined) return template.render(row);
    const value = template.value(row);
    return typeof value === 'string' && isDigits(value) ? Number(value) : value;
  };
}

function choicesOf(
  file: TaskFile,
  target: Field,
  where: (field: string) => string,
): Pick<MultipleChoiceDefinition, 'choices' | 'gold'> {
  const { doc_to_choice: given } = file;
  if (given === undefined) throw new UserError(`${where('doc_to_choice')} is missing, which multiple_choice needs.`);
  const choices = (row: Row): string[] => {
    const value = typeof given === 'string' ? listOf(given, row, where('doc_to_choice')) : Object.values(given);
    return value.map((one) => textIn(one, where('doc_to_choice')));
  };
  return {
    choices,
    gold: (row) => {
      const gold = target(row);
      const index = typeof gold === 'number' ? gold : choices(row).indexOf(textIn(gold, where('doc_to_target')));
      if (index < 0) throw new UserError(`the answer '${shown(`${gold}`)}' is none of the choices.`);
      return index;
    },
  };
}

function listOf(source: string, row: Row, where: string): unknown[] {
  const value = Object.hasOwn(row, source) ? row[source] : templateOf(source, where).value(row);
  const list = typeof value === 'string' ? parseLiteral(value, where) : value;
  if (Array.isArray(list)) return list;
  throw new UserError(`${where}: it gives ${shown(JSON.stringify(value) ?? 'nothing').slice(0, 60)}; expected a list.`);
}

function choiceMetrics(file: TaskFile, where: (field: string) => string): ('acc' | 'acc_norm' | 'acc_bytes')[] {
  const known = ['acc', 'acc_norm', 'acc_bytes'] as const;
  return (file.metric_list ?? [{ metric: 'acc' }, { metric: 'acc_norm' }]).map(({ metric }) => {
    const found = known.find((one) => one === metric);
    if (!found) throw unknownMetric(metric, where, known.join(', '));
    return found;
  });
}

function unknownMetric(metric: string, where: (field: string) => string, known: string): UserError {
  return new UserError(`${where('metric_list')}: there is no metric '${shown(metric)}' here; known: ${known}.`);
}

function metricOf(
  metric: NonNullable<TaskFile['metric_list']>[number],
  target: (row: Row) => string,
  where: (field: string) => string,
): GenerationMetric {
  if (metric.metric !== 'exact_match') throw unknownMetric(metric.metric, where, 'exact_match');
  return exactMatch(target, {
    ignoreCase: metric.ignore_case ?? false,
    ignorePunctuation: metric.ignore_punctuation ?? false,
    ignoreNumbers: metric.ignore_numbers ?? false,
    ignored: (metric.regexes_to_ignore ?? []).map((pattern) => pythonRegex(pattern, where('regexes_to_ignore'))),
  });
}

type FilterStep = NonNullable<TaskFile['filter_list']>[number]['filter'][number];

function filtersOf({ filter_list }: TaskFile, where: (field: string) => string): AnswerFilter[] {
  if (!filter_list) return [wholeText];
  return filter_list.map(({ name, filter }) => {
    const steps = filter.map((step) => stepOf(name, step, where('filter_list')));
    return { name, apply: (text) => steps.reduce((rest, step) => step(rest), text) };
  });
}

function stepOf(name: string, step: FilterStep, where: string): (text: string) => string {
  switch (step.function) {
    case 'take_first':
      return (text) => text;
    case 'lowercase':
      return (text) => text.toLowerCase();
    case 'uppercase':
      return (text) => text.toUpperCase();
    case 'remove_whitespace':
      return (text) => strip(text);
    case 'regex': {
      const { regex_pattern = '#### (\\-?[0-9\\.\\,]+)', group_select = 0, fallback } = step;
      return regexFilter(name, pythonRegex(regex_pattern, where), group_select, fallback).apply;
    }
  }
}

/** Files that the task names itself, beside its own or from the working directory. */
function filesOf(file: TaskFile, path: string): Readonly<Record<string, readonly string[]>> | undefined {
  const given = file.dataset_kwargs?.data_files;
  if (given === undefined) return undefined;
  const placed = (names: string | string[]) =>
    [names].flat().map((name) => {
      const beside = resolve(dirname(path), name);
      return existsSync(beside) ? beside : resolve(name);
    });
  // A single file is the split that is called train, as the data sets' library has it.
  if (typeof given === 'string' || Array.isArray(given)) return { train: placed(given) };
  return Object.fromEntries(Object.entries(given).map(([split, names]) => [split, placed(names)]));
}
