// What a run is, as one YAML file: the model, the tokenizer, and stages that follow each other, each with its length,
// data, context length and learning-rate schedule. Paths in the file are relative to the file.
import { dirname, resolve } from 'node:path';
import { SourceConfigSchema } from '@stickbreaking/data';
import { LlamaConfigSchema } from '@stickbreaking/model';
import { z } from 'zod';
import { ScheduleSchema, type StageSchedule } from './schedule.js';
import { readYaml } from './yaml_config.js';

const count = z.int().positive();

const StageSchema = z
  .strictObject({
    name: z.string().min(1).optional(),
    /** Length: tokens (rounded up to whole steps) or optimizer steps; exactly one of the two. */
    tokens: count.optional(),
    steps: count.optional(),
    /** The mixture: text sources, `weight` being each one's share of the tokens. */
    data: z.array(SourceConfigSchema).min(1),
    /** Longest piece of a document that attention sees. */
    contextLength: count,
    schedule: ScheduleSchema,
    /** In place of the run's. */
    batchTokens: count.optional(),
    microBatchTokens: count.optional(),
  })
  .refine((stage) => (stage.tokens === undefined) !== (stage.steps === undefined), {
    message: 'expected exactly one of tokens and steps',
  })
  .refine(({ schedule }) => schedule.warmupTokens === undefined || schedule.warmupSteps === undefined, {
    path: ['schedule'],
    message: 'expected at most one of warmupTokens and warmupSteps',
  });

const OptimizerSchema = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  epsilon: z.number().positive().default(1e-8),
  /** Decoupled; norms and biases are left out. */
  weightDecay: z.number().nonnegative().default(0.1),
  /** Gradients are scaled down to this global norm; 0 leaves them as they are. */
  gradientClip: z.number().nonnegative().default(1),
});

const CheckpointSchema = z.strictObject({
  /** Write one each time any of these has passed since the last; one is always written at the end. */
  everySteps: count.optional(),
  everyTokens: count.optional(),
  everyMinutes: z.number().positive().optional(),
  keepLast: count.default(2),
  /** Keep the one with the lowest validation loss too. */
  keepBest: z.boolean().default(true),
});

const ValidationSchema = z.strictObject({
  data: z.array(SourceConfigSchema).min(1),
  everySteps: count,
  /** Tokens scored each time, always the same ones. */
  tokens: count.default(131_072),
});

export const RunConfigSchema = z
  .strictObject({
    model: LlamaConfigSchema,
    /** A tokenizer.json. */
    tokenizer: z.string().min(1),
    runDirectory: z.string().min(1),
    /** Where tokenized text is kept, to be shared between runs. Default: shards, in the run directory. */
    shardDirectory: z.string().min(1).optional(),
    /** Continue from the weights of this checkpoint directory, with a new optimizer and schedule. */
    initialCheckpoint: z.string().min(1).optional(),
    stages: z.array(StageSchema).min(1),
    /** Tokens in one optimizer step. */
    batchTokens: count,
    /** Tokens that go through the model at once; a step accumulates gradients. Default: the stage's context length. */
    microBatchTokens: count.optional(),
    optimizer: OptimizerSchema.prefault({}),
    seed: z.int().nonnegative().default(0),
    checkpoint: CheckpointSchema.prefault({ everyMinutes: 15 }),
    validation: ValidationSchema.optional(),
    /** Steps in a row with a loss or gradient that is not finite, after which the run stops. */
    maxNonFiniteSteps: count.default(10),
    backend: z.enum(['auto', 'native', 'cuda', 'cpu', 'tensorflow', 'webgpu']).default('auto'),
    /** CPU threads of the native backend. Default: all cores. */
    threads: count.optional(),
  })
  .superRefine((run, context) => {
    run.stages.forEach((stage, i) => {
      const { batchTokens, microBatchTokens } = stageBatch(run, i);
      const fail = (key: string, message: string) =>
        context.addIssue({ code: 'custom', path: ['stages', i, key], message });
      if (stage.contextLength > microBatchTokens) {
        fail('contextLength', `expected at most microBatchTokens (${microBatchTokens}), the longest piece there is`);
      }
      if (batchTokens % microBatchTokens !== 0) {
        fail(
          'contextLength',
          `the batch of ${batchTokens} tokens is no multiple of the micro-batch of ${microBatchTokens}; change batchTokens or microBatchTokens`,
        );
      }
      if (i === 0 && stage.schedule.peak === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['stages', i, 'schedule', 'peak'],
          message: 'the first stage states its peak learning rate',
        });
      }
    });
  });

export type RunConfig = z.output<typeof RunConfigSchema>;
export type RunConfigInput = z.input<typeof RunConfigSchema>;

function stageBatch(
  run: { batchTokens: number; microBatchTokens?: number; stages: readonly z.output<typeof StageSchema>[] },
  index: number,
) {
  const stage = run.stages[index]!;
  return {
    batchTokens: stage.batchTokens ?? run.batchTokens,
    microBatchTokens: stage.microBatchTokens ?? run.microBatchTokens ?? stage.contextLength,
  };
}

/** A stage with everything that follows from the run's configuration filled in. */
export interface Stage extends StageSchedule {
  name: string;
  data: RunConfig['stages'][number]['data'];
  microBatchTokens: number;
}

export function resolveStages(run: RunConfig): Stage[] {
  let tokensBefore = 0;
  return run.stages.map((stage, i) => {
    const { batchTokens, microBatchTokens } = stageBatch(run, i);
    const steps = stage.steps ?? Math.ceil(stage.tokens! / batchTokens);
    const { name = `stage ${i + 1}`, data, contextLength, schedule } = stage;
    const resolved = { name, data, contextLength, schedule, steps, batchTokens, microBatchTokens, tokensBefore };
    tokensBefore += steps * batchTokens;
    return resolved;
  });
}

/**
 * Reads a run's YAML file, with `key.path=value` changes, its paths made absolute. A mistake throws a one-line
 * TrainError with file, line and key.
 */
export function loadRunConfig(file: string, overrides: readonly string[] = []): RunConfig {
  const pathKeys = ['path', 'tokenizer', 'runDirectory', 'shardDirectory', 'initialCheckpoint'];
  const run = readYaml(file, RunConfigSchema, { overrides, pathKeys });
  const at = (path: string) => resolve(dirname(file), path);
  const source = (s: Stage['data'][number]) => ({ ...s, path: [s.path].flat().map(at) });
  return {
    ...run,
    tokenizer: at(run.tokenizer),
    runDirectory: at(run.runDirectory),
    ...(run.shardDirectory && { shardDirectory: at(run.shardDirectory) }),
    ...(run.initialCheckpoint && { initialCheckpoint: at(run.initialCheckpoint) }),
    stages: run.stages.map((stage) => ({ ...stage, data: stage.data.map(source) })),
    ...(run.validation && { validation: { ...run.validation, data: run.validation.data.map(source) } }),
  };
}
