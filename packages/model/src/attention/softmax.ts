/** Causal softmax attention with one of the position schemes, over all of a document or a sliding window of it. */

import { softmaxAttention, softmaxWeights } from '@stickbreaking/core';
import { z } from 'zod';
import { count } from '../bounds.js';
import { parameter, zeros } from '../parameter.js';
import { defineAttentionKind } from './attention_kind.js';
import { layersFromHuggingFace, layersToHuggingFace } from './layers.js';
import { type PositionConfig, PositionSchema, positionKind, positionKinds } from './positions/index.js';
import { ropeFromHuggingFace } from './positions/rope.js';
import { normalisedQueriesAndKeys, qkNormParameters, qkNormSchema } from './qk_norm.js';

const layers = z.array(z.int().min(0)).refine((all) => new Set(all).size === all.length, { error: 'a layer is twice' });

const SoftmaxSchema = z
  .strictObject({
    kind: z.literal('softmax'),
    position: PositionSchema,
    /** A query sees its last `window` keys, itself included. */
    window: count().optional(),
    /** The layers, from 0, that have the window; default: all. */
    windowLayers: layers.optional(),
    /** Layers, from 0, without the position scheme, as SmolLM 3 has them; default: none. */
    nopeLayers: layers.optional(),
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
  })
  .refine(({ window, windowLayers }) => window !== undefined || windowLayers === undefined, {
    error: 'expected a window beside it',
    path: ['windowLayers'],
  })
  // Other schemes have parameters, which such a layer would have for nothing.
  .refine(({ position, nopeLayers }) => nopeLayers === undefined || ['rope', 'alibi'].includes(position.kind), {
    error: 'expected position rope or alibi beside it',
    path: ['nopeLayers'],
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
    const kind = positionKind(position);
    const tempered = { ...inputs, scale: scale * (kind.temperature?.(position) ?? 1) };
    const normalised = normalisedQueriesAndKeys(tempered, weights, normEpsilon);
    return kind.shape?.(normalised, position) ?? normalised;
  },

  fault({ position, windowLayers = [], nopeLayers = [] }, { headDim, numLayers }) {
    const message = positionKind(position).headDimFault?.(position, headDim);
    if (message) return { path: ['headDim'], message };
    for (const [key, layers] of Object.entries({ windowLayers, nopeLayers })) {
      const beyond = layers.find((layer) => layer >= numLayers);
      if (beyond === undefined) continue;
      return { path: ['attention', key], message: `the model has layers 0 to ${numLayers - 1}, and no ${beyond}` };
    }
    return undefined;
  },

  inLayer({ windowLayers, nopeLayers, window, position, ...attention }, layer) {
    const hasWindow = window !== undefined && (windowLayers?.includes(layer) ?? true);
    const none: PositionConfig = { kind: 'none' };
    const own = nopeLayers?.includes(layer) ? none : position;
    return { ...attention, ...(hasWindow ? { window } : {}), position: own };
  },

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
  reach: ({ position, window, windowLayers }, model) =>
    window !== undefined && windowLayers === undefined && window <= model.contextLength
      ? undefined
      : positionKind(position).reach?.(position, model),

  matrix({ q, k, scale, gates }, weights, { position, window }, model) {
    const keys = { gates, cuSeqlens: [0, k.shape[0]] };
    return softmaxWeights(q, k, {
      ...{ scale, window, position: positionKind(position).toCore(position, weights, model, keys) },
      ...(weights.sinks ? { sink: weights.sinks } : {}),
    });
  },

  toHuggingFace(attention, model) {
    const { position, qkNorm, sink } = attention;
    const layers = layersToHuggingFace(attention, model);
    const keys = positionKind(position).toHuggingFace?.(position, model);
    const isPlain = !sink && qkNorm !== 'projection' && layers.alike;
    return {
      inPython: isPlain && (positionKind(position).inPython?.(position) ?? false),
      families: keys && !sink ? layers.families.filter((family) => qkNormOf(family) === (qkNorm || false)) : [],
      keys: (family) => ({ ...keys, ...layers.keys(family) }),
    };
  },

  fromHuggingFace(json, file): SoftmaxInput {
    const qkNorm = qkNormOf(json.model_type);
    const position = ropeFromHuggingFace(json, file);
    return { kind: 'softmax', position, ...layersFromHuggingFace(json, file), ...(qkNorm ? { qkNorm } : {}) };
  },
});

/** A model has it or not by its type alone. */
const qkNormOf = (type: unknown) => (type === 'qwen3' ? true : type === 'olmo2' ? 'projection' : false);
