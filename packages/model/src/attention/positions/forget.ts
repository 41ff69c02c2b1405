/**
 * The forget gate of the Forgetting Transformer (https://arxiv.org/abs/2503.02130): a key's logit falls by what the gates of the
 * tokens after it, learned from their hidden states, leave of it. Heads that share keys share their gate.
 */
import { forgettingBias, linear } from '@stickbreaking/core';
import { add, neg, softplus, type Tensor2D } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { type Initializer, normal, parameter } from '../../parameter.js';
import { InitialReachSchema, reachesOf } from '../initial_reach.js';
import { definePositionKind } from './position_kind.js';

export const forget = definePositionKind({
  schema: z.strictObject({
    kind: z.literal('forget'),
    /**
     * A gate of 1 − 1/r before anything is learned, which leaves 1/e of a key after about r tokens: of all heads, or [first
     * head's, last head's] with those between in equal ratios. Without it, 2.
     */
    initialReach: InitialReachSchema.optional(),
  }),
  shorthand: 'forget',

  parameters({ initialReach = 2 }, { hiddenSize, numKvHeads, initializerRange }) {
    // A gate of 1 − 1/r.
    const openings: Initializer = (values) => {
      values.set(reachesOf(initialReach, numKvHeads).map((reach) => Math.log(reach - 1)));
    };
    return {
      weight: parameter('self_attn.forget_gate.weight', [numKvHeads, hiddenSize], normal(initializerRange)),
      bias: parameter('self_attn.forget_gate.bias', [numKvHeads], openings),
    };
  },

  gates: (x, { weight, bias }) => neg(softplus(neg(add(linear(x, weight), bias)))) as Tensor2D,

  toCore: (_, _weights, _model, { gates, cuSeqlens }) => ({ kind: 'keys', keyBias: forgettingBias(gates!, cuSeqlens) }),
});
