/** What a model is: its sizes and its attention, as a zod schema whose inferred type the rest of the package uses. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { fromHuggingFace } from './huggingface_config.js';
import { readYaml } from './yaml.js';

const count = z.int().positive();

const RopeScalingSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('linear'), factor: z.number().min(1) }),
  z.strictObject({ kind: z.literal('ntk'), factor: z.number().min(1) }),
  z.strictObject({
    kind: z.literal('dynamic'),
    factor: z.number().min(1),
    /** Default: the model's contextLength. */
    originalContextLength: count.optional(),
  }),
]);

const PositionSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({
    kind: z.literal('rope'),
    theta: z.number().positive().default(10_000),
    scaling: RopeScalingSchema.optional(),
  }),
  z.strictObject({ kind: z.literal('alibi') }),
  z.strictObject({
    kind: z.literal('fire'),
    width: count.default(32),
    initialThreshold: z.number().positive().default(512),
  }),
]);

const positionNames = {
  rope: { kind: 'rope', theta: 10_000 },
  alibi: { kind: 'alibi' },
  fire: { kind: 'fire', width: 32, initialThreshold: 512 },
  none: { kind: 'none' },
} as const satisfies Record<string, z.output<typeof PositionSchema>>;

const StickBreakingSchema = z.strictObject({
  kind: z.literal('stick-breaking'),
  /** Whether a token may attend to itself. */
  attendCurrent: z.boolean().default(false),
  /** Give the remainder to a learned vector of each head (equation 14 of the paper). */
  remainderBias: z.boolean().default(false),
  /** Group norm of each head's output (appendix C of the paper). */
  headNorm: z.boolean().default(false),
});

const SoftmaxSchema = z.strictObject({
  kind: z.literal('softmax'),
  position: z
    .union([
      z
        .enum(['rope', 'alibi', 'fire', 'none'])
        .transform((name): z.output<typeof PositionSchema> => positionNames[name]),
      PositionSchema,
    ])
    .default(positionNames.rope),
  /** A query sees its last `window` keys, itself included. */
  window: count.optional(),
});

export type AttentionConfig = z.output<typeof StickBreakingSchema> | z.output<typeof SoftmaxSchema>;

const shorthands: Record<string, AttentionConfig> = {
  'stick-breaking': { kind: 'stick-breaking', attendCurrent: false, remainderBias: false, headNorm: false },
  'softmax+rope': { kind: 'softmax', position: positionNames.rope },
  'softmax+alibi': { kind: 'softmax', position: positionNames.alibi },
  'softmax+fire': { kind: 'softmax', position: positionNames.fire },
  'softmax+nope': { kind: 'softmax', position: positionNames.none },
};

const AttentionSchema = z.union(
  [
    z.enum(Object.keys(shorthands) as [string, ...string[]]).transform((name): AttentionConfig => shorthands[name]!),
    StickBreakingSchema,
    SoftmaxSchema,
  ],
  { error: `expected one of ${Object.keys(shorthands).join(', ')}, or { kind: stick-breaking | softmax, … }` },
);

/** The schema of a model's configuration; every key that has a usual value has it as its default. */
export const LlamaConfigSchema = z
  .strictObject({
    vocabSize: count,
    hiddenSize: count,
    intermediateSize: count,
    numLayers: count,
    numHeads: count,
    /** Key-value heads; default numHeads. */
    numKvHeads: count.optional(),
    /** Default hiddenSize / numHeads. */
    headDim: count.optional(),
    attention: AttentionSchema.default(shorthands['stick-breaking']!),
    /** The context the model is made for, in tokens. */
    contextLength: count.default(2048),
    tieEmbeddings: z.boolean().default(false),
    normEpsilon: z.number().positive().default(1e-5),
    /** Standard deviation of the initial weights. */
    initializerRange: z.number().positive().default(0.02),
    /** Multipliers of maximal update parametrisation; all 1 (attention: 1/√headDim) when absent. */
    mup: z
      .strictObject({
        embeddingMultiplier: z.number().positive().default(1),
        residualMultiplier: z.number().positive().default(1),
        /** Replaces 1/√headDim as the factor on q·k. */
        attentionMultiplier: z.number().positive().optional(),
        /** The logits are divided by it. */
        logitsDivider: z.number().positive().default(1),
      })
      .optional(),
  })
  .transform((config, context) => {
    const numKvHeads = config.numKvHeads ?? config.numHeads;
    const headDim = config.headDim ?? config.hiddenSize / config.numHeads;
    const fault = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message, input: config });
    if (!Number.isInteger(headDim))
      fault('hiddenSize', `expected a multiple of numHeads (${config.numHeads}), or set headDim`);
    if (config.numHeads % numKvHeads !== 0) fault('numKvHeads', `expected a divisor of numHeads (${config.numHeads})`);
    const { attention } = config;
    if (attention.kind === 'softmax' && attention.position.kind === 'rope' && headDim % 2 !== 0) {
      fault('headDim', `expected an even number with RoPE, which turns pairs; it is ${headDim}`);
    }
    return { ...config, numKvHeads, headDim };
  });

export type LlamaConfig = z.output<typeof LlamaConfigSchema>;
/** What a user writes: defaults left out, shorthands allowed. */
export type LlamaConfigInput = z.input<typeof LlamaConfigSchema>;

/**
 * Reads a model's configuration from a run's YAML file (its `model:` section), a file that holds nothing else, a
 * `config.json` as Hugging Face writes it, or a checkpoint directory.
 *
 * @throws UserError with file, line and key
 */
export function loadConfig(path: string): LlamaConfig {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'config.json') : path;
  const content = readYaml(file, z.record(z.string(), z.unknown(), { error: 'expected keys and values' }));
  if ('model_type' in content) return fromHuggingFace(content, file);
  return readYaml(file, LlamaConfigSchema, 'model' in content ? { section: 'model' } : {});
}

/** Checks a configuration written in code. */
export function parseConfig(input: LlamaConfigInput): LlamaConfig {
  const result = LlamaConfigSchema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UserError(`model configuration: ${issue.path.join('.')}: ${issue.message}.`);
}
