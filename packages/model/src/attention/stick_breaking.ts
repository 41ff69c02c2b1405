/**
 * Stick-breaking attention (https://arxiv.org/abs/2410.17980). It needs no position embedding: going back from a token,
 * nearer keys take their share first.
 */
import { headNorm, remainderBias, stickBreakingAttention, stickBreakingWeights } from '@stickbreaking/core';
import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { ones, parameter, zeros } from '../parameter.js';
import { defineAttentionKind } from './attention_kind.js';

const StickBreakingSchema = z.strictObject({
  kind: z.literal('stick-breaking'),
  /** Whether a token may attend to itself. */
  attendCurrent: z.boolean().default(false),
  /** Give the remainder to a learned vector of each head (equation 14 of the paper). */
  remainderBias: z.boolean().default(false),
  /** Group norm of each head's output (appendix C of the paper). */
  headNorm: z.boolean().default(false),
});

export type StickBreakingConfig = z.output<typeof StickBreakingSchema>;

export const stickBreaking = defineAttentionKind({
  schema: StickBreakingSchema,
  shorthands: { 'stick-breaking': { kind: 'stick-breaking' } },
  leavesRemainder: true,

  parameters(attention, { numHeads, headDim }) {
    const byHead = [numHeads, headDim] as const;
    return {
      remainderBias: attention.remainderBias ? parameter('self_attn.remainder_bias', byHead, zeros) : undefined,
      normWeight: attention.headNorm ? parameter('self_attn.head_norm.weight', byHead, ones) : undefined,
      normBias: attention.headNorm ? parameter('self_attn.head_norm.bias', byHead, zeros) : undefined,
    };
  },

  attend({ q, k, v, cuSeqlens, cuSeqlensK, scale }, weights, attention, model) {
    const options = { cuSeqlens, cuSeqlensK, scale, attendCurrent: attention.attendCurrent };
    const { output, remainder } = stickBreakingAttention(q, k, v, options);
    return finish(output, remainder, weights, model.normEpsilon);
  },

  decoding: ({ attendCurrent }) => ({ kind: 'stick-breaking', attendCurrent }),

  finish: (output, remainder, weights, _, { normEpsilon }) => finish(output, remainder, weights, normEpsilon),

  matrix({ q, k, scale }, _, { attendCurrent }) {
    return stickBreakingWeights(q, k, { scale, attendCurrent });
  },

  toHuggingFace: () => ({ keys: {} }),
});

interface FinishWeights {
  remainderBias: Tensor | undefined;
  normWeight: Tensor | undefined;
  normBias: Tensor | undefined;
}

/** The paper's additions. */
function finish(
  output: Tensor3D,
  remainder: Tensor2D,
  { remainderBias: bias, normWeight, normBias }: FinishWeights,
  normEpsilon: number,
): Tensor3D {
  const whole = bias ? remainderBias(output, remainder, bias) : output;
  return normWeight && normBias ? headNorm(whole, normWeight, normBias, normEpsilon) : whole;
}

/** Whether a configuration selects stick-breaking attention. */
export function isStickBreaking(attention: { kind: string }): attention is StickBreakingConfig {
  return attention.kind === StickBreakingSchema.shape.kind.value;
}
