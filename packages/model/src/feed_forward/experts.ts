/**
 * A dropless mixture of SwiGLU experts in place of one SwiGLU, as GraniteMoE and GraniteMoE with a shared expert have it:
 * the softmax over the logits of the chosen experts weighs what they give, in float32. Its matmuls are made as the backend
 * makes them, whatever the precision of the other layers.
 */
import { mixtureOfExperts } from '@stickbreaking/core';
import { add, expandDims, type Tensor2D, zeros } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { count, nonNegative } from '../bounds.js';
import { flag, type Json, readKey, refuseOthers } from '../huggingface_keys.js';
import { normal, parameter } from '../parameter.js';
import { defineFeedForwardKind } from './feed_forward_kind.js';

const width = () => count(2 ** 22);

const ExpertsSchema = z
  .strictObject({
    /** How many experts each layer has. */
    count: count(4096),
    /** How many of them each token passes. */
    active: count(4096),
    /** Width of gate and up of each expert. */
    intermediateSize: width(),
    /** The same of a shared expert, which every token passes; 0: there is none. */
    shared: z
      .int()
      .min(0)
      .max(2 ** 22)
      .default(0),
    /** Factor on each layer's balance loss and, a tenth of it, on its z loss, both of a micro-batch. */
    balance: nonNegative().default(0.01),
    /**
     * Of which tokens the balance loss takes the experts' shares: the micro-batch's own, or those of the whole step before, all
     * micro-batches and processes together, so that an expert may be busy with one kind of text and idle with another.
     */
    balanceOver: z
      .enum(['microBatch', 'step'])
      .optional()
      .transform((over) => (over === 'step' ? over : undefined)), // earlier versions did not say
  })
  .refine(({ count, active }) => active <= count, {
    path: ['active'],
    error: ({ input }) => `expected at most experts.count (${(input as { count: number }).count})`,
  });

/** Of the z loss, beside the balance loss (lm-engine's `mlp_blocks/moe`). */
const Z_SHARE = 0.1;

export const experts = defineFeedForwardKind({
  schema: ExpertsSchema,

  parameters({ count, intermediateSize, shared }, { hiddenSize, initializerRange }) {
    const initial = normal(initializerRange);
    const name = (part: string) => `block_sparse_moe.${part}.weight`;
    return {
      router: parameter(name('router.layer'), [count, hiddenSize], initial),
      /** Of each expert the rows of gate, then those of up. */
      input: parameter(name('input_linear'), [count, 2 * intermediateSize, hiddenSize], initial),
      output: parameter(name('output_linear'), [count, hiddenSize, intermediateSize], initial),
      ...(shared > 0
        ? {
            sharedInput: parameter('shared_mlp.input_linear.weight', [2 * shared, hiddenSize], initial),
            sharedOutput: parameter('shared_mlp.output_linear.weight', [hiddenSize, shared], initial),
          }
        : { sharedInput: undefined, sharedOutput: undefined }),
    };
  },

  forward(
    x,
    { router, input, output, sharedInput, sharedOutput },
    { active, balance, balanceOver },
    { lossWeight, onRouting, countsBefore },
  ) {
    const balanceWeight = balance * lossWeight;
    const balanceCounts = balanceOver === 'step' && countsBefore?.some((count) => count > 0) ? countsBefore : undefined;
    const options = { active, balanceWeight, zWeight: Z_SHARE * balanceWeight, balanceCounts };
    const { y, routing } = mixtureOfExperts(x, { router, input, output }, options);
    onRouting?.(routing);
    if (!sharedInput || !sharedOutput) return y;
    // An expert that every token passes is a mixture of one.
    const one = { input: expandDims(sharedInput, 0), output: expandDims(sharedOutput, 0) };
    const shared = mixtureOfExperts(x, { router: zeros([1, x.shape[1]]), ...one }, { active: 1 });
    return add(y, shared.y) as Tensor2D;
  },

  unusedPerToken: ({ count, active, intermediateSize }, { hiddenSize }) =>
    (count - active) * 3 * hiddenSize * intermediateSize,

  routedPerToken: ({ active, intermediateSize }, { hiddenSize }) => active * 3 * hiddenSize * intermediateSize,

  experts: ({ count }) => count,

  usesCountsBefore: ({ balanceOver }) => balanceOver === 'step',

  // The residual stream and the norm; gate and up of each expert passed; the logits and which experts those are.
  savedPerToken: ({ count, active, intermediateSize, shared }, { hiddenSize }) =>
    2 * hiddenSize + 2 * (active * intermediateSize + shared) + 2 * (count + active),

  // Of each choice its row, the row's choice and the gate, and of the token its logSumExp. A shared expert is a mixture of one;
  // what it gave and what the others did are there until they have been added.
  savedBesidesOnGpu: ({ active, shared }, { hiddenSize }) => 6 * active + 2 + (shared > 0 ? 2 * hiddenSize + 12 : 0),

  // Gate and up, their gradients and the weighed product; what each expert's row passes on.
  backwardPerToken: ({ active, intermediateSize, shared }, { hiddenSize }) =>
    (3 + active) * hiddenSize + 5 * (active * intermediateSize + shared),

  // There a head is as wide as the hidden state divided by the heads.
  family: ({ shared }, { hiddenSize, numHeads, headDim }) =>
    numHeads * headDim === hiddenSize ? (shared > 0 ? 'granitemoeshared' : 'granitemoe') : undefined,

  toHuggingFace: ({ count, active, intermediateSize, shared, balance, balanceOver }) => ({
    intermediate_size: intermediateSize,
    num_local_experts: count,
    num_experts_per_tok: active,
    ...(shared > 0 ? { shared_intermediate_size: shared } : {}),
    router_aux_loss_coef: balance,
    ...(balanceOver ? { balance_over: balanceOver } : {}),
    output_router_logits: false,
  }),

  fromHuggingFace(json, file) {
    const { model_type } = json;
    if (model_type !== 'granitemoe' && model_type !== 'granitemoeshared') return undefined;
    const key = <Schema extends z.ZodType>(name: string, schema: Schema) => readKey(json as Json, file, name, schema);
    refuseOthers(json, file, { normalization_function: ['rmsnorm'], position_embedding_type: ['rope'] });
    key('output_router_logits', flag(false));
    return {
      count: key('num_local_experts', count(4096).default(8)),
      active: key('num_experts_per_tok', count(4096).default(2)),
      intermediateSize: key('intermediate_size', width()),
      shared: model_type === 'granitemoeshared' ? key('shared_intermediate_size', z.int().min(0)) : 0,
      balance: key('router_aux_loss_coef', nonNegative().default(0.001)),
      balanceOver: key('balance_over', z.enum(['microBatch', 'step']).optional()),
    };
  },
});
