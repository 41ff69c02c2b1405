/**
 * Stick-breaking attention (https://arxiv.org/abs/2410.17980). It needs no position embedding: going back from a token,
 * nearer keys take their share first.
 */
import {
  headNorm,
  remainderBias,
  stickBreakingAttention,
  stickBreakingRing,
  stickBreakingWeights,
} from '@stickbreaking/core';
import type { Tensor, Tensor3D } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { ones, parameter, zeros } from '../parameter.js';
import { type Attended, defineAttentionKind } from './attention_kind.js';
import { InitialReachSchema, initialReachParameters, reaching } from './initial_reach.js';
import { normalisedQueriesAndKeys, qkNormParameters, qkNormSchema } from './qk_norm.js';

const StickBreakingSchema = z.strictObject({
  kind: z.literal('stick-breaking'),
  /** Whether a token may attend to itself. */
  attendCurrent: z.boolean().default(false),
  /** Give the remainder to a learned vector of each head (equation 14 of the paper). */
  remainderBias: z.boolean().default(false),
  /** Group norm of each head's output (appendix C of the paper). */
  headNorm: z.boolean().default(false),
  /**
   * Mean distance of what a token attends to before anything is learned, in tokens: of all heads, or [first head's, last
   * head's] with those between in equal ratios. Without it, 2.
   */
  initialReach: InitialReachSchema.optional(),
  ...qkNormSchema,
});

export type StickBreakingConfig = z.output<typeof StickBreakingSchema>;

export const stickBreaking = defineAttentionKind({
  schema: StickBreakingSchema,
  shorthands: { 'stick-breaking': { kind: 'stick-breaking' } },
  leavesRemainder: () => true,

  parameters(attention, model) {
    const { numHeads, headDim } = model;
    const byHead = [numHeads, headDim] as const;
    return {
      remainderBias: attention.remainderBias ? parameter('self_attn.remainder_bias', byHead, zeros) : undefined,
      normWeight: attention.headNorm ? parameter('self_attn.head_norm.weight', byHead, ones) : undefined,
      normBias: attention.headNorm ? parameter('self_attn.head_norm.bias', byHead, zeros) : undefined,
      ...qkNormParameters(attention.qkNorm, model),
      ...initialReachParameters(attention.initialReach, model),
    };
  },

  shape: (inputs, weights, _, { normEpsilon }) =>
    reaching(normalisedQueriesAndKeys(inputs, weights, normEpsilon), weights),

  attend({ q, k, v, cuSeqlens, cuSeqlensK, scale }, _, { attendCurrent }) {
    return stickBreakingAttention(q, k, v, { cuSeqlens, cuSeqlensK, scale, attendCurrent });
  },

  attendInRing: ({ q, k, v, cuSeqlens, scale }, ring, { attendCurrent }) =>
    stickBreakingRing(q, k, v, { cuSeqlens, scale, attendCurrent }, ring),

  sharedHeads: ({ remainderBias }) => ({ readsRemainder: remainderBias }),

  decoding: ({ attendCurrent }) => ({ kind: 'stick-breaking', attendCurrent }),

  finish: (attended, weights, _, { normEpsilon }) => finish(attended, weights, normEpsilon),

  matrix({ q, k, scale }, _, { attendCurrent }) {
    return stickBreakingWeights(q, k, { scale, attendCurrent });
  },

  toHuggingFace: ({ qkNorm }) => ({ families: [], inPython: qkNorm !== 'projection', keys: () => ({}) }),
});

interface FinishWeights {
  remainderBias: Tensor | undefined;
  normWeight: Tensor | undefined;
  normBias: Tensor | undefined;
}

/** The paper's additions. */
function finish(
  { output, remainder }: Attended,
  { remainderBias: bias, normWeight, normBias }: FinishWeights,
  normEpsilon: number,
): Tensor3D {
  const whole = bias ? remainderBias(output, remainder!, bias) : output;
  return normWeight && normBias ? headNorm(whole, normWeight, normBias, normEpsilon) : whole;
}

/** Whether a configuration selects stick-breaking attention. */
export function isStickBreaking(attention: { kind: string }): attention is StickBreakingConfig {
  return attention.kind === StickBreakingSchema.shape.kind.value;
}
