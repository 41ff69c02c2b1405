/** Causal softmax attention with one of the position schemes, over all of a document or a sliding window of it. */

import { UserError } from '@stickbreaking/base';
import { softmaxAttention, softmaxWeights } from '@stickbreaking/core';
import { z } from 'zod';
import { count } from '../bounds.js';
import { type Json, readKey, refuseOthers, say } from '../huggingface_keys.js';
import { parameter, zeros } from '../parameter.js';
import { defineAttentionKind } from './attention_kind.js';
import { PositionSchema, positionKind, positionKinds } from './positions/index.js';
import { ropeFromHuggingFace } from './positions/rope.js';
import { normalisedQueriesAndKeys, qkNormParameters, qkNormSchema } from './qk_norm.js';

const SoftmaxSchema = z
  .strictObject({
    kind: z.literal('softmax'),
    position: PositionSchema,
    /** A query sees its last `window` keys, itself included. */
    window: count().optional(),
    /**
     * A learned sink for each head: one more key, whose value is zero, so that a head may attend to nothing; default false.
     * What single new tokens attend with in a cache does not know of it, so that generation is slower.
     */
    sink: z.boolean().optional(),
    ...qkNormSchema,
  })
  .refine(({ position, sink }) => !sink || position.kind !== 'forget', {
    error: 'expected no sink beside forget gates',
    path: ['sink'],
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
  leavesRemainder: ({ sink = false }) => sink,

  parameters: ({ position, qkNorm, sink }, model) => ({
    ...positionKind(position).parameters(position, model),
    ...qkNormParameters(qkNorm, model),
    sinks: sink ? parameter('self_attn.sinks', [model.numHeads], zeros) : undefined,
  }),

  hasGates: ({ position }) => positionKind(position).gates !== undefined,
  gates: (x, weights, { position }) => positionKind(position).gates?.(x, weights),

  shape({ scale, ...inputs }, weights, { position }, { normEpsilon }) {
    const tempered = { ...inputs, scale: scale * (positionKind(position).temperature?.(position) ?? 1) };
    return normalisedQueriesAndKeys(tempered, weights, normEpsilon);
  },

  headDimFault: ({ position }, headDim) => positionKind(position).headDimFault?.(headDim),

  attend({ q, k, v, turned, gates, ...packed }, weights, { position, window }, model) {
    const keys = { gates, cuSeqlens: packed.cuSeqlensK };
    const output = softmaxAttention(q, k, v, {
      ...packed,
      window,
      ...(weights.sinks ? { sink: weights.sinks } : {}),
      position: turned ? { kind: 'none' } : positionKind(position).toCore(position, weights, model, keys),
    });
    return { output };
  },

  sharedHeads: ({ position, sink }) =>
    sink || !positionKind(position).headsAlike ? undefined : { readsRemainder: false },

  turnedBy: ({ position }, model) => positionKind(position).turnedBy?.(position, model),

  decoding({ position, window = 0, sink }, model) {
    if (sink) return undefined;
    const decoding = positionKind(position).decoding?.(position, model);
    return decoding && { kind: 'softmax', window, ...decoding };
  },

  // Within a window no distance is larger than in training.
  reach: ({ position, window }, model) =>
    window !== undefined && window <= model.contextLength ? undefined : positionKind(position).reach?.(position, model),

  matrix({ q, k, scale, gates }, weights, { position, window }, model) {
    const keys = { gates, cuSeqlens: [0, k.shape[0]] };
    return softmaxWeights(q, k, {
      ...{ scale, window, position: positionKind(position).toCore(position, weights, model, keys) },
      ...(weights.sinks ? { sink: weights.sinks } : {}),
    });
  },

  toHuggingFace({ position, window, qkNorm, sink }, model) {
    const keys = positionKind(position).toHuggingFace?.(position, model);
    return {
      inPython: !sink && (positionKind(position).inPython ?? false),
      family: keys && !sink ? familyOf(window, qkNorm) : undefined,
      keys: { ...keys, ...(window ? { sliding_window: window } : {}) },
    };
  },

  fromHuggingFace(json, file): SoftmaxInput {
    const window = windowFromHuggingFace(json, file);
    const qkNorm = json.model_type === 'qwen3' ? { qkNorm: true } : {};
    return { kind: 'softmax', position: ropeFromHuggingFace(json, file), ...(window ? { window } : {}), ...qkNorm };
  },
});

/** The models of `transformers` that attend like this. */
function familyOf(window: number | undefined, qkNorm: boolean | undefined) {
  if (qkNorm) return window ? undefined : ('qwen3' as const);
  return window ? ('mistral' as const) : ('llama' as const);
}

/** Of the model types that are read, only Mistral has a window: `transformers` ignores the key in the others. */
function windowFromHuggingFace(json: Json, file: string): number | undefined {
  const window =
    json.model_type === 'mistral'
      ? (readKey(json, file, 'sliding_window', count().nullish().default(4096)) ?? undefined)
      : undefined;
  // Mistral looks at neither of these, so a file in which they say something else describes another model.
  if (window) refuseOthers(json, file, { use_sliding_window: [true] });
  // Qwen looks at its window where this says so.
  if (/^qwen/.test(String(json.model_type))) refuseOthers(json, file, { use_sliding_window: [false] });
  const expected = window ? 'sliding_attention' : 'full_attention';
  const types = readKey(json, file, 'layer_types', z.array(z.string()).nullish()) ?? [];
  const other = types.find((type) => type !== expected);
  if (other === undefined) return window;
  throw new UserError(
    `${file}: layer_types has ${say(other)}, which is not supported; every layer of this model has ${expected}.`,
  );
}
