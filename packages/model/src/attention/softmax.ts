/** Causal softmax attention with one of the position schemes, over all of a document or a sliding window of it. */

import { softmaxAttention, softmaxWeights } from '@stickbreaking/core';
import { z } from 'zod';
import { count } from '../bounds.js';
import { defineAttentionKind } from './attention_kind.js';
import { PositionSchema, positionKind, positionKinds } from './positions/index.js';
import { ropeFromHuggingFace } from './positions/rope.js';

const SoftmaxSchema = z.strictObject({
  kind: z.literal('softmax'),
  position: PositionSchema,
  /** A query sees its last `window` keys, itself included. */
  window: count().optional(),
});

type SoftmaxInput = z.input<typeof SoftmaxSchema>;

export const softmax = defineAttentionKind({
  schema: SoftmaxSchema,
  shorthands: Object.fromEntries(
    positionKinds.map(({ shorthand, schema }): [string, SoftmaxInput] => [
      `softmax+${shorthand}`,
      { kind: 'softmax', position: schema.shape.kind.value },
    ]),
  ),
  leavesRemainder: false,

  parameters: ({ position }, model) => positionKind(position).parameters(position, model),

  headDimFault: ({ position }, headDim) => positionKind(position).headDimFault?.(headDim),

  attend({ q, k, v, ...packed }, weights, { position, window }, model) {
    return softmaxAttention(q, k, v, {
      ...packed,
      window,
      position: positionKind(position).toCore(position, weights, model),
    });
  },

  matrix({ q, k, scale }, weights, { position, window }, model) {
    return softmaxWeights(q, k, { scale, window, position: positionKind(position).toCore(position, weights, model) });
  },

  toHuggingFace({ position, window }, model) {
    const keys = positionKind(position).toHuggingFace?.(position, model);
    return {
      family: keys && (window ? 'mistral' : 'llama'),
      keys: { ...keys, ...(window ? { sliding_window: window } : {}) },
    };
  },

  fromHuggingFace(json, file): SoftmaxInput {
    const position = ropeFromHuggingFace(json, file);
    return { kind: 'softmax', position, ...(json.sliding_window ? { window: json.sliding_window as number } : {}) };
  },
});
