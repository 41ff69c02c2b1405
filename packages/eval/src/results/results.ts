/** The results of an evaluation in the shape of lm-evaluation-harness's results.json, and what belongs beside them. */

import type { DataFile } from '../runner/data_sets.js';
import type { TaskOutcome } from '../runner/run.js';
import type { BuiltTask } from '../tasks/build.js';
import type { GroupDefinition } from '../tasks/definition.js';
import { groupResult } from '../tasks/groups.js';
import { documentHashes, sha256 } from '../tasks/hashes.js';
import type { ResolvedTasks } from '../tasks/resolve.js';
import { metricsOf, type TaskFigure, type TaskResult } from '../tasks/scores.js';
import type { GenerationSettings } from '../tasks/task.js';

/** A group that was evaluated, whole or in part. */
export interface GroupOutcome {
  group: GroupDefinition;
  /** Names of the tasks and groups in it. */
  members: readonly string[];
  result: TaskResult;
}

/** How an evaluation was run. */
export interface RunFacts {
  checkpoint: string;
  /** Release of lm-evaluation-harness that was imitated. */
  harness: string;
  backend: string;
  /** Whether a beginning token stood before each context, and by which rule. */
  bos: { rule: string; put: boolean; token: string | undefined };
  batchTokens: number;
  maxLength: number;
  limit: number | undefined;
  numFewshot: number | undefined;
  seed: number;
  fewshotSeed: number;
  settings: Partial<GenerationSettings> | undefined;
  /** When it began. */
  date: Date;
  seconds: number;
  data: Readonly<Record<string, readonly DataFile[]>>;
  tokenizer: { hash: string; eosToken: string; eosId: number; bosToken: string | undefined; beginId: number };
  version: string;
}

/** The figures of groups over the tasks that were evaluated. */
export function groupOutcomes(resolved: ResolvedTasks, outcomes: readonly TaskOutcome[]): GroupOutcome[] {
  const results = new Map(outcomes.map(({ task, result }) => [task.name, result]));
  const groups = new Map(resolved.groups.map((group) => [group.name, group]));
  const leaves = (name: string): string[] => groups.get(name)?.members.flatMap(leaves) ?? [name];
  return resolved.groups.map((group) => {
    const own = [...new Set(leaves(group.name))].flatMap((name) => results.get(name) ?? []);
    return { group, members: group.members, result: groupResult(group, own) };
  });
}

/** The results as the harness's file has them; `stickbreaking` holds what it has no place for. */
export function resultsJson(
  outcomes: readonly TaskOutcome[],
  groups: readonly GroupOutcome[],
  facts: RunFacts,
): Record<string, unknown> {
  const scored = groups.filter(({ result }) => result.figures.length > 0);
  const each = <T>(value: (outcome: TaskOutcome) => T) =>
    Object.fromEntries(outcomes.map((one) => [one.task.name, value(one)]));
  const groupEntries = Object.fromEntries(scored.map(({ group, result }) => [group.name, entryOf(group, result)]));
  const { tokenizer } = facts;
  return {
    results: { ...each(({ task, result }) => entryOf(task.definition, result)), ...groupEntries },
    ...(scored.length > 0 ? { groups: groupEntries } : {}),
    group_subtasks: Object.fromEntries(groups.map(({ group, members }) => [group.name, members])),
    configs: each(configOf),
    versions: {
      ...each(({ task }) => task.definition.version),
      ...Object.fromEntries(scored.map(({ group }) => [group.name, group.version])),
    },
    'n-shot': each(({ task }) => task.numFewshot),
    higher_is_better: each(({ task }) =>
      Object.fromEntries(metricsOf(task.definition).map(({ name, higherIsBetter }) => [name, higherIsBetter])),
    ),
    'n-samples': each(({ task }) => ({ original: task.documentsInSplit, effective: task.examples.length })),
    config: {
      model: 'stickbreaking',
      model_args: `checkpoint=${facts.checkpoint}`,
      batch_size: `${facts.batchTokens} tokens`,
      limit: facts.limit ?? null,
      bootstrap_iters: 100_000,
      gen_kwargs: facts.settings ?? null,
      random_seed: facts.seed,
      numpy_seed: 1234,
      torch_seed: 1234,
      fewshot_seed: facts.fewshotSeed,
    },
    git_hash: null,
    date: facts.date.getTime() / 1000,
    max_length: facts.maxLength,
    tokenizer_pad_token: null,
    tokenizer_eos_token: [tokenizer.eosToken, `${tokenizer.eosId}`],
    tokenizer_bos_token: tokenizer.bosToken === undefined ? null : [tokenizer.bosToken, `${tokenizer.beginId}`],
    eot_token_id: tokenizer.eosId,
    task_hashes: each(taskHash),
    model_source: 'stickbreaking',
    model_name: facts.checkpoint,
    system_instruction: null,
    chat_template: null,
    fewshot_as_multiturn: false,
    total_evaluation_time_seconds: `${facts.seconds}`,
    stickbreaking: ownFacts(outcomes, facts),
  };
}

function ownFacts(outcomes: readonly TaskOutcome[], facts: RunFacts): Record<string, unknown> {
  return {
    version: facts.version,
    harness: `lm-evaluation-harness ${facts.harness}`,
    bos: { ...facts.bos, token: facts.bos.token ?? null },
    backend: facts.backend,
    logSoftmax: 'float32, summed in float64',
    batch: `packs of up to ${facts.batchTokens} tokens, longest first, without padding`,
    tokenizer: facts.tokenizer.hash,
    data: facts.data,
    tasks: Object.fromEntries(
      outcomes.map(({ task, cut, result }) => [
        task.name,
        {
          firstPrompt: task.examples[0] && documentHashes(task.examples[0]).prompt,
          contextsCut: cut,
          ...(result.remarks ?? {}),
          ...(task.kind === 'loglikelihood_rolling' ? { totals: totalsOf(task, outcomes) } : {}),
        },
      ]),
    ),
  };
}

/** What perplexities are made of. */
function totalsOf(task: BuiltTask, outcomes: readonly TaskOutcome[]): Record<string, number> {
  const { scores } = outcomes.find((one) => one.task === task)!;
  const sum = (metric: string, part: 0 | 1) =>
    scores.reduce((total, score) => total + (score.none!.metrics[metric] as readonly [number, number])[part], 0);
  return { nll: -sum('word_perplexity', 0), words: sum('word_perplexity', 1), bytes: sum('byte_perplexity', 1) };
}

function entryOf(
  { name, alias = name }: { name: string; alias?: string },
  { documents, figures }: TaskResult,
): Record<string, unknown> {
  return { name, alias, sample_len: documents, ...Object.fromEntries(figures.flatMap(keyed)) };
}

function keyed({ metric, filter, value, standardError }: TaskFigure): [string, number | 'N/A'][] {
  return [
    [`${metric},${filter}`, value],
    [`${metric}_stderr,${filter}`, standardError ?? 'N/A'],
  ];
}

function configOf({ task }: TaskOutcome): Record<string, unknown> {
  const { definition } = task;
  return {
    task: definition.name,
    ...(definition.alias === undefined ? {} : { task_alias: definition.alias }),
    dataset_path: definition.dataset.path,
    ...(definition.dataset.name === undefined ? {} : { dataset_name: definition.dataset.name }),
    evaluation_split: definition.split,
    ...(typeof definition.shots?.from === 'string' ? { fewshot_split: definition.shots.from } : {}),
    description: definition.description ?? '',
    target_delimiter: ' ',
    fewshot_delimiter: '\n\n',
    fewshot_config: { sampler: definition.shots?.sampler ?? 'default' },
    num_fewshot: task.numFewshot,
    metric_list: metricsOf(definition).map(({ name, higherIsBetter }) => ({
      metric: name,
      higher_is_better: higherIsBetter,
    })),
    output_type: definition.kind === 'multiple_context' ? 'multiple_choice' : definition.kind,
    ...(definition.kind === 'generate_until'
      ? { generation_kwargs: definition.settings, filter_list: definition.filters.map(({ name }) => name) }
      : {}),
    metadata: { version: definition.version },
  };
}

/** One hash of all documents, prompts and targets. */
function taskHash({ task }: TaskOutcome): string {
  const hashes = task.examples.map(documentHashes);
  return sha256(hashes.map(({ document, prompt, target }) => document + prompt + target).join(''));
}
