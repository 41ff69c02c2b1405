// A run's configuration: one YAML file says what is trained, on what, how long and where it goes.
import { readYaml, ShippedFiles } from '@stickbreaking/base/node';
import { SourceConfigSchema, TokenizerConfigSchema } from '@stickbreaking/data';
import {
  attentionKind,
  count,
  fetchCheckpoint,
  type LlamaConfig,
  LlamaConfigSchema,
  loadConfig,
  resolveCheckpoint,
  routedExperts,
  SHARED_BY,
  type SharedBy,
} from '@stickbreaking/model';
import { z } from 'zod';
import { REDUCE_TYPES, SHARDS } from './collective.js';
import { OptimizerSchema } from './optimizer.js';
import { SamplesSchema } from './samples.js';
import { ScheduleSchema } from './schedule.js';
import { StartSchema, startOfSchema } from './start.js';

/** Tokens of a whole run may be more than an int32 holds. */
const total = z.int().positive();
/** Paths are relative to the working directory. */
const path = z.string().min(1);
const sources = z.array(SourceConfigSchema).min(1);

const StageSchema = z.strictObject({
  name: z.string().min(1).optional(),
  /** The stage's length: in tokens (rounded up to whole steps), or in optimizer steps. */
  tokens: total.optional(),
  steps: count().optional(),
  /** Longest piece of a document, in tokens; default: the model's contextLength. */
  contextLength: count().optional(),
  /** Default: the run's. */
  batchTokens: count().optional(),
  microBatchTokens: count().optional(),
  schedule: ScheduleSchema,
  /** A mixture of sources. A stage after the first may leave it out: it goes on with the data of the one before. */
  data: sources.optional(),
});

/** The schema of a run's configuration file. */
export const RunConfigSchema = z
  .strictObject({
    /** The run's directory: checkpoints/, metrics.jsonl, train.log. */
    output: path,
    /** Default: the model of `startFrom`. */
    model: LlamaConfigSchema,
    /** A checkpoint or run directory whose weights the run starts from, and what of its model may differ. */
    startFrom: StartSchema.optional(),
    /** tokenizer.json, or a directory that holds one; or `path` with the tokens that begin and end documents. */
    tokenizer: TokenizerConfigSchema,
    /** Where tokenized text is kept, to be shared by runs; default: tokens/ beside the run's directory. */
    shards: path.optional(),
    /** Determines initial weights and data order. */
    seed: z.int().nonnegative().default(0),
    backend: z.string().default('auto'),
    /** Tokens of an optimizer step, and of one forward and backward pass. */
    batchTokens: count(),
    microBatchTokens: count(),
    /** What the backward recomputes instead of keeping it in memory; losses stay the same, on cuda up to rounding. */
    recompute: z.enum(['none', 'attention', 'block']).default('none'),
    /**
     * 'fp8': the layers' matmuls, but for the weights' gradients, take operands of eight bits (cuda on a Hopper GPU; other
     * backends imitate it). Default: the backend's own.
     */
    precision: z.enum(['default', 'fp8']).default('default'),
    /**
     * 'fp24': cuda keeps the residual stream and its gradient with eight bits more than bfloat16's; other backends keep it in
     * float32 in any case. Default: 'fp24', with matmuls in fp8 'bfloat16'; a run that is resumed stays as it was.
     */
    residualType: z.enum(['bfloat16', 'fp24']).optional(),
    /** How many documents are read in turns, so that a step of long documents covers more than one. */
    interleave: count().default(16),
    optimizer: OptimizerSchema.prefault({}),
    stages: z.array(StageSchema).min(1),
    validation: z
      .strictObject({
        data: sources,
        /** How many tokens to evaluate (rounded up to whole micro-batches), the same every time. */
        tokens: total.default(262_144),
        everySteps: count().default(500),
      })
      .optional(),
    /** Texts that the model writes as it is trained, into samples.jsonl. */
    samples: SamplesSchema.optional(),
    /** Tasks on which the model is scored as the run goes, as `sb-eval --tasks` scores them. */
    evaluation: z
      .strictObject({
        /** Names of tasks and groups, globs, and task files. */
        tasks: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]),
        /** The folder of their data sets; default: what STICKBREAKING_DATA names. */
        dataDir: path.optional(),
        /** Only the first documents of each task: a number of them, or a share below 1. */
        limit: z.number().positive().optional(),
        /** Examples before each question; default: the task's own. */
        numFewshot: z.int().nonnegative().optional(),
        everySteps: count().default(1000),
      })
      .optional(),
    checkpoints: z
      .strictObject({
        everySteps: count().default(1000),
        keepLast: count().default(3),
        /** Keep the one with the lowest validation loss too. */
        keepBest: z.boolean().default(true),
      })
      .prefault({}),
    /** Write the metrics as TensorBoard's event files too, into tensorboard/ of the run's directory. */
    tensorboard: z.boolean().default(false),
    /** A run in several processes. */
    parallel: z
      .strictObject({
        /**
         * Of what each process keeps only its part: of the optimizer's state, of the gradients too (where a step has
         * several micro-batches), and, on GPUs, of the weights between passes. Each takes less memory and more traffic.
         * Default: 'optimizer' on GPUs; on CPUs each process keeps all.
         */
        shard: z.enum(SHARDS).optional(),
        /** So many processes share a sequence: each has a part of its tokens. For contexts that one GPU has no memory for. */
        context: count().default(1),
        /**
         * How they do so in the attention. 'heads': each has all tokens of a part of the heads. 'ring', stick-breaking alone: each
         * keeps its queries, and keys and values go from process to process, until no stick has anything left.
         */
        contextBy: z.enum(SHARED_BY).default('heads'),
        /**
         * Add gradients in the order of the micro-batches, whichever GPU worked on one: a run gives the same bits on 1, 2, 4
         * and 8 GPUs. Takes memory for one layer's gradients more, and a few percent of the speed.
         */
        orderedSums: z.boolean().default(false),
        /**
         * In what form gradients travel between processes. In bfloat16 half as much: each process rounds its own once, and they are
         * added in float32, in the order of the processes. Those of norms, biases and other vectors, which are few, stay float32.
         */
        reduceType: z.enum(REDUCE_TYPES).default('float32'),
        /** How long the processes wait for one that does not come to a sum. */
        timeoutSeconds: count().default(600),
      })
      .prefault({}),
    /** Stop after this many steps in a row whose loss or gradient was not finite. */
    maxNonFiniteSteps: count().default(5),
  })
  .superRefine((config, context) => {
    const fault = (at: (string | number)[], message: string) =>
      context.addIssue({ code: 'custom', path: at, message, input: config });
    for (const key of ['samples', 'evaluation'] as const)
      if (config[key] && config.parallel.shard === 'weights')
        fault([key], 'expected none where parallel.shard is weights: no process has all of them between passes');
    for (const message of contextFaults(config)) fault(['parallel', 'context'], message);
    config.stages.forEach((stage, i) => {
      if ((stage.tokens === undefined) === (stage.steps === undefined)) {
        fault(['stages', i], 'expected either tokens or steps, the length of the stage');
      }
      const batch = stage.batchTokens ?? config.batchTokens;
      const micro = stage.microBatchTokens ?? config.microBatchTokens;
      const own = stage.microBatchTokens ?? stage.batchTokens;
      const at =
        own === undefined ? ['batchTokens'] : ['stages', i, stage.batchTokens ? 'batchTokens' : 'microBatchTokens'];
      if (batch % micro !== 0)
        fault(at, `expected batchTokens (${batch}) to be a multiple of microBatchTokens (${micro})`);
      const context = stage.contextLength ?? config.model.contextLength;
      if (context > micro) {
        const key = stage.contextLength === undefined ? ['model', 'contextLength'] : ['stages', i, 'contextLength'];
        fault(key, `expected at most microBatchTokens (${micro}): no piece of a document can be longer`);
      }
      const { warmupTokens, warmupSteps, peak } = stage.schedule;
      if (warmupTokens !== undefined && warmupSteps !== undefined) {
        fault(['stages', i, 'schedule', 'warmupSteps'], 'expected warmupTokens or warmupSteps, not both');
      }
      const steps = stage.steps ?? Math.ceil((stage.tokens ?? 0) / batch);
      if ((warmupTokens ?? (warmupSteps ?? 0) * batch) > steps * batch) {
        const key = warmupTokens === undefined ? 'warmupSteps' : 'warmupTokens';
        fault(['stages', i, 'schedule', key], `expected a warm-up no longer than the stage (${steps} steps)`);
      }
      if (i === 0 && peak === undefined) fault(['stages', 0, 'schedule'], 'the first stage needs a peak');
      if (i === 0 && !stage.data) fault(['stages', 0], 'the first stage needs data');
    });
  });

interface Shared {
  model: LlamaConfig;
  microBatchTokens: number;
  stages: readonly { microBatchTokens?: number | undefined }[];
  parallel: { context: number; contextBy: SharedBy; orderedSums: boolean };
}

/** Why so many processes cannot share a sequence, in the words of a fault. */
function contextFaults({ model, microBatchTokens, stages, parallel }: Shared): string[] {
  const { context, contextBy, orderedSums } = parallel;
  if (context === 1) return [];
  if (orderedSums) return ['expected 1 where parallel.orderedSums is set: a sequence that is shared is added in parts'];
  const { sharedHeads, attendInRing } = attentionKind(model.attention);
  const heads: [string, number][] = [
    ['model.numHeads', model.numHeads],
    ['model.numKvHeads', model.numKvHeads],
  ];
  const counts: [string, number][] = [
    ...(contextBy === 'heads' ? heads : []),
    ...[{ microBatchTokens }, ...stages].flatMap((one): [string, number][] =>
      one.microBatchTokens ? [['microBatchTokens', one.microBatchTokens]] : [],
    ),
  ];
  const odd = counts.find(([, count]) => count % context > 0);
  if (odd) return [`expected a divisor of ${odd[0]} (${odd[1]})`];
  if (contextBy === 'ring' && !attendInRing)
    return ['expected 1 with this attention, whose keys cannot come one part after another: take stick-breaking'];
  if (contextBy === 'heads' && !sharedHeads?.(model.attention))
    return [
      'expected 1 with this attention, which differs from head to head: take stick-breaking, or softmax with RoPE',
    ];
  if (routedExperts(model) > 0) return ['expected 1 with experts, whose tokens are balanced over whole micro-batches'];
  return [];
}

/** A run's configuration, with all defaults filled in. */
export type RunConfig = z.output<typeof RunConfigSchema>;
/** A run's configuration as a user writes it. */
export type RunConfigInput = z.input<typeof RunConfigSchema>;

/** The run files that come with this package. */
export const shippedRuns = new ShippedFiles(import.meta.url, 'configs');
/** A run file may extend one of them, or another of the user's. */
const composed = { composed: shippedRuns };

/**
 * Reads a run's YAML file, with values replaced by `key.path=value` overrides.
 *
 * @param given the file's path, or the name of one that comes with this package, such as `350m`
 * @throws UserError with file, line and key (or the override)
 */
export function loadRunConfig(given: string, overrides: readonly string[] = []): RunConfig {
  const file = shippedRuns.find(given);
  return readYaml(file, RunConfigSchema, { ...composed, overrides: [...inherited(file, overrides), ...overrides] });
}

/** Where the file names no model, that of the checkpoint which the run starts from, as the first of the overrides. */
function inherited(file: string, overrides: readonly string[]): string[] {
  if ('model' in readYaml(file, loose, composed)) return [];
  const start = startIn(file, overrides);
  return start ? [`model=${JSON.stringify(loadConfig(resolveCheckpoint(start.path)))}`] : [];
}

const loose = z.looseObject({});

/** What a run's file says it starts from; undefined where it says nothing, or nothing that can be. */
function startIn(file: string, overrides: readonly string[]) {
  const start = StartSchema.safeParse(readYaml(file, loose, { ...composed, overrides }).startFrom);
  return start.success ? startOfSchema(start.data) : undefined;
}

/**
 * Downloads what a run starts from, where that is on the Hugging Face Hub, so that `loadRunConfig` finds it.
 *
 * @throws UserError where it cannot be fetched
 */
export async function fetchStart(given: string, overrides: readonly string[] = []): Promise<void> {
  const start = startIn(shippedRuns.find(given), overrides);
  if (start) await fetchCheckpoint(start.path);
}

/** The stages' lengths in whole steps and their sizes in tokens, with what they leave out filled in. */
export function stageSizes(config: RunConfig) {
  return config.stages.map((stage) => {
    const batchTokens = stage.batchTokens ?? config.batchTokens;
    return {
      name: stage.name,
      schedule: stage.schedule,
      steps: stage.steps ?? Math.ceil(stage.tokens! / batchTokens),
      contextLength: stage.contextLength ?? config.model.contextLength,
      batchTokens,
      microBatchTokens: stage.microBatchTokens ?? config.microBatchTokens,
    };
  });
}
