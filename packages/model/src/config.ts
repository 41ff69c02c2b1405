/**
 * A model's configuration, its sizes and its attention, as a zod schema whose inferred type the rest of the package
 * uses.
 */
import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { AttentionSchema, attentionKind } from './attention/index.js';
import { count, positive } from './bounds.js';
import { feedForwardFault, feedForwardSchemas } from './feed_forward/index.js';

/** The schema of a model's configuration; a key with a usual value has it as its default. */
export const LlamaConfigSchema = z
  .strictObject({
    vocabSize: count(),
    hiddenSize: count(2 ** 20),
    ...feedForwardSchemas,
    numLayers: count(4096),
    numHeads: count(2 ** 16),
    /** Key-value heads; default numHeads. */
    numKvHeads: count(2 ** 16).optional(),
    /** Default hiddenSize / numHeads. */
    headDim: count(2 ** 16).optional(),
    attention: AttentionSchema,
    /** Learned biases of the attention's projections: of queries, keys and values, or of the output too; default none. */
    projectionBiases: z.enum(['qkv', 'qkvo']).optional(),
    /** The context length the model is trained for, in tokens. */
    contextLength: count().default(2048),
    tieEmbeddings: z.boolean().default(false),
    /** Whether attention and feed-forward read a norm of the residual stream, or add a norm of what they give; default before. */
    normPlacement: z.enum(['before', 'after']).optional(),
    normEpsilon: positive().default(1e-5),
    /** Standard deviation of the initial weights. */
    initializerRange: positive().default(0.02),
    /** Multipliers of maximal update parametrisation; all 1 (attention: 1/√headDim) when absent. */
    mup: z
      .strictObject({
        embeddingMultiplier: positive().default(1),
        residualMultiplier: positive().default(1),
        /** Replaces 1/√headDim as the factor on q·k. */
        attentionMultiplier: positive().optional(),
        /** The logits are divided by it. */
        logitsDivider: positive().default(1),
      })
      .optional(),
  })
  .transform((config, context) => {
    const numKvHeads = config.numKvHeads ?? config.numHeads;
    const headDim = config.headDim ?? config.hiddenSize / config.numHeads;
    const fault = (path: string | string[], message: string) =>
      context.addIssue({ code: 'custom', path: [path].flat(), message, input: config });
    const noFeedForward = feedForwardFault(config);
    if (noFeedForward) fault(noFeedForward.key, noFeedForward.message);
    if (!Number.isInteger(headDim))
      fault('hiddenSize', `expected a multiple of numHeads (${config.numHeads}), or set headDim`);
    if (config.numHeads % numKvHeads !== 0) fault('numKvHeads', `expected a divisor of numHeads (${config.numHeads})`);
    const sizesFault = attentionKind(config.attention).fault?.(config.attention, { ...config, headDim });
    if (sizesFault) fault(sizesFault.path, sizesFault.message);
    return { ...config, numKvHeads, headDim };
  });

/** A model's configuration with all defaults filled in. */
export type LlamaConfig = z.output<typeof LlamaConfigSchema>;
/** A configuration as a user writes it: defaults may be left out, shorthands are allowed. */
export type LlamaConfigInput = z.input<typeof LlamaConfigSchema>;

/**
 * Checks a configuration written in code, and fills in the defaults.
 *
 * @throws UserError that names the key and what was expected
 */
export function parseConfig(input: LlamaConfigInput): LlamaConfig {
  const result = LlamaConfigSchema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UserError(`model configuration: ${issue.path.join('.')}: ${issue.message}.`);
}
