/** What a model is: its sizes and its attention, as a zod schema whose inferred type the rest of the package uses. */
import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { AttentionSchema, attentionKind } from './attention/index.js';
import { feedForwardSchemas } from './feed_forward/index.js';

const count = z.int().positive();

/** The schema of a model's configuration; every key that has a usual value has it as its default. */
export const LlamaConfigSchema = z
  .strictObject({
    vocabSize: count,
    hiddenSize: count,
    ...feedForwardSchemas,
    numLayers: count,
    numHeads: count,
    /** Key-value heads; default numHeads. */
    numKvHeads: count.optional(),
    /** Default hiddenSize / numHeads. */
    headDim: count.optional(),
    attention: AttentionSchema,
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
    const headDimFault = attentionKind(config.attention).headDimFault?.(config.attention, headDim);
    if (headDimFault) fault('headDim', headDimFault);
    return { ...config, numKvHeads, headDim };
  });

export type LlamaConfig = z.output<typeof LlamaConfigSchema>;
/** What a user writes: defaults left out, shorthands allowed. */
export type LlamaConfigInput = z.input<typeof LlamaConfigSchema>;

/** Checks a configuration written in code. */
export function parseConfig(input: LlamaConfigInput): LlamaConfig {
  const result = LlamaConfigSchema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UserError(`model configuration: ${issue.path.join('.')}: ${issue.message}.`);
}
