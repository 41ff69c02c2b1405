/**
 * Stick-breaking attention (https://arxiv.org/abs/2410.17980). It needs no position embedding: going back from a token,
 * nearer keys take their share first.
 */
import { headNorm, remainderBias, stickBreakingAttention, stickBreakingWeights } from '@stickbreaking/core';
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

  attend({ q, k, v, ...packed }, weights, { attendCurrent }, { normEpsilon }) {
    const { output, remainder } = stickBreakingAttention(q, k, v, { ...packed, attendCurrent });
    const { remainderBias: bias, normWeight, normBias } = weights;
    const whole = bias ? remainderBias(output, remainder, bias) : output;
    return normWeight && normBias ? headNorm(whole, normWeight, normBias, normEpsilon) : whole;
  },

  matrix({ q, k, scale }, _, { attendCurrent }) {
    return stickBreakingWeights(q, k, { scale, attendCurrent });
  },

  toHuggingFace: () => ({ keys: {} }),
});

/** Whether a configuration selects stick-breaking attention. */
export function isStickBreaking(attention: { kind: string }): attention is StickBreakingConfig {
  return attention.kind === StickBreakingSchema.shape.kind.value;
}
