/** Fields of lm-evaluation-harness's task files, as far as they are read here. */
import { z } from 'zod';
import { GenerationSettingsSchema } from '../task.js';

const text = z.string();
const split = z.string().min(1).nullable().optional();
const files = z.union([text, z.array(text)]);

const MetricSchema = z.strictObject({
  metric: text,
  aggregation: z.enum(['mean']).optional(),
  hf_evaluate: z.boolean().optional(),
  higher_is_better: z.boolean().optional(),
  ignore_case: z.boolean().optional(),
  ignore_punctuation: z.boolean().optional(),
  ignore_numbers: z.boolean().optional(),
  regexes_to_ignore: z.array(text).optional(),
});

const FilterStepSchema = z.strictObject({
  function: z.enum(['regex', 'take_first', 'lowercase', 'uppercase', 'remove_whitespace']),
  regex_pattern: text.optional(),
  group_select: z.int().optional(),
  fallback: text.optional(),
});

/** A field of the harness that would change a score and is not read here. */
const unread = z.null({ error: 'cannot be given here; write the task with defineTask' }).optional();

/** A task file. A field that neither the harness nor this program knows is misspelt: a score without it would be another one. */
export const TaskFileSchema = z.strictObject({
  task: text.min(1),
  task_alias: text.optional(),
  tag: z.union([text, z.array(text)]).optional(),
  group: z.union([text, z.array(text)]).optional(),
  dataset_path: text.min(1),
  dataset_name: text.nullable().optional(),
  dataset_kwargs: z
    .looseObject({ data_files: z.union([files, z.record(text, files)]).optional() })
    .nullable()
    .optional(),
  ...{ training_split: split, validation_split: split, test_split: split, fewshot_split: split },
  output_type: z.enum(['multiple_choice', 'generate_until', 'loglikelihood_rolling']).default('generate_until'),
  doc_to_text: text.default(''),
  doc_to_choice: z.union([text, z.array(text), z.record(text, text)]).optional(),
  doc_to_target: z.union([text, z.int()]).optional(),
  description: text.default(''),
  target_delimiter: text.default(' '),
  fewshot_delimiter: text.default('\n\n'),
  num_fewshot: z.int().nonnegative().nullable().optional(),
  fewshot_config: z
    .strictObject({
      sampler: z.enum(['default', 'first_n']).default('default'),
      samples: z.array(z.record(text, z.unknown())).optional(),
    })
    .optional(),
  metric_list: z.array(MetricSchema).min(1).optional(),
  filter_list: z
    .array(z.strictObject({ name: text, filter: z.array(FilterStepSchema).min(1) }))
    .min(1)
    .refine((filters) => new Set(filters.map(({ name }) => name)).size === filters.length, 'two have the same name')
    .optional(),
  generation_kwargs: GenerationSettingsSchema.partial().optional(),
  repeats: z.literal(1, { error: 'is 1 here: each question is asked once' }).optional(),
  ...{ process_docs: unread, process_results: unread, custom_dataset: unread },
  ...{ gen_prefix: unread, use_prompt: unread, doc_to_image: unread, doc_to_audio: unread },
  // Without an effect on scores
  should_decontaminate: z.boolean().optional(),
  doc_to_decontamination_query: text.optional(),
  unsafe_code: z.boolean().optional(),
  metadata: z.looseObject({ version: z.union([z.number(), text]).optional() }).optional(),
});
export type TaskFile = z.output<typeof TaskFileSchema>;

/** A group file. */
export const GroupFileSchema = z.strictObject({
  group: text.min(1),
  group_alias: text.nullable().optional(),
  tag: z.union([text, z.array(text)]).optional(),
  task: z.array(text).min(1),
  aggregate_metric_list: z
    .array(
      z.strictObject({
        metric: text,
        aggregation: z.enum(['mean']).optional(),
        weight_by_size: z.boolean().default(true),
        filter_list: z.union([text, z.array(text)]).default('none'),
      }),
    )
    .optional(),
  metadata: z.looseObject({ version: z.union([z.number(), text]).optional() }).optional(),
});
export type GroupFile = z.output<typeof GroupFileSchema>;
