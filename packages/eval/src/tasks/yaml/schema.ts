/** Fields of lm-evaluation-harness's task files, as far as they are read here. */
import { z } from 'zod';
import { GenerationSettingsSchema } from '../task.js';

const text = z.string();
const split = z.string().min(1).nullable().optional();
const files = z.union([text, z.array(text)]);

const MetricSchema = z.looseObject({
  metric: text,
  aggregation: z.enum(['mean']).optional(),
  higher_is_better: z.boolean().optional(),
  ignore_case: z.boolean().optional(),
  ignore_punctuation: z.boolean().optional(),
  ignore_numbers: z.boolean().optional(),
  regexes_to_ignore: z.array(text).optional(),
});

const FilterStepSchema = z.looseObject({
  function: z.enum(['regex', 'take_first', 'lowercase', 'uppercase', 'remove_whitespace']),
  regex_pattern: text.optional(),
  group_select: z.int().optional(),
  fallback: text.optional(),
});

/** A task file. */
export const TaskFileSchema = z.looseObject({
  task: text.min(1),
  task_alias: text.optional(),
  tag: z.union([text, z.array(text)]).optional(),
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
    .looseObject({
      sampler: z.enum(['default', 'first_n']).default('default'),
      samples: z.array(z.record(text, z.unknown())).optional(),
    })
    .optional(),
  metric_list: z.array(MetricSchema).min(1).optional(),
  filter_list: z
    .array(z.looseObject({ name: text, filter: z.array(FilterStepSchema).min(1) }))
    .min(1)
    .refine((filters) => new Set(filters.map(({ name }) => name)).size === filters.length, 'two have the same name')
    .optional(),
  generation_kwargs: GenerationSettingsSchema.partial().optional(),
  metadata: z.looseObject({ version: z.union([z.number(), text]).optional() }).optional(),
});
export type TaskFile = z.output<typeof TaskFileSchema>;

/** A group file. */
export const GroupFileSchema = z.looseObject({
  group: text.min(1),
  group_alias: text.nullable().optional(),
  task: z.array(text).min(1),
  aggregate_metric_list: z
    .array(
      z.looseObject({
        metric: text,
        weight_by_size: z.boolean().default(true),
        filter_list: z.union([text, z.array(text)]).default('none'),
      }),
    )
    .optional(),
  metadata: z.looseObject({ version: z.union([z.number(), text]).optional() }).optional(),
});
export type GroupFile = z.output<typeof GroupFileSchema>;
