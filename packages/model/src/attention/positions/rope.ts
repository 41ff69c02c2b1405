/** RoPE: queries and keys are rotated by angles that grow with their position (https://arxiv.org/abs/2104.09864). */

import { UserError } from '@stickbreaking/base';
import { ropeInverseFrequencies } from '@stickbreaking/core';
import { z } from 'zod';
import { count, positive } from '../../bounds.js';
import { type Json, readKey, refuseOthers, say } from '../../huggingface_keys.js';
import { definePositionKind } from './position_kind.js';

/** A factor beyond these bounds is a slip. */
const factor = z.number().min(1).max(1e6);

const RopeScalingSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('linear'), factor }),
  z.strictObject({ kind: z.literal('ntk'), factor }),
  z.strictObject({
    kind: z.literal('dynamic'),
    factor,
    /** Default: the model's contextLength. */
    originalContextLength: count().optional(),
  }),
]);

const RopeSchema = z.strictObject({
  kind: z.literal('rope'),
  theta: positive().default(10_000),
  scaling: RopeScalingSchema.optional(),
});

export const rope = definePositionKind({
  schema: RopeSchema,
  shorthand: 'rope',
  parameters: () => ({}),

  toCore({ theta, scaling }, _, { contextLength }) {
    if (!scaling) return { kind: 'rope', theta };
    if (scaling.kind !== 'dynamic') return { kind: 'rope', theta, scaling };
    const originalContextLength = scaling.originalContextLength ?? contextLength;
    return { kind: 'rope', theta, scaling: { ...scaling, originalContextLength } };
  },

  // Dynamic scaling changes every angle as a document grows.
  turnedBy: ({ theta, scaling }, { headDim }) =>
    scaling?.kind === 'dynamic' ? undefined : ropeInverseFrequencies(headDim, theta, scaling),

  decoding: ({ scaling }) => (scaling?.kind === 'dynamic' ? undefined : {}),

  reach({ scaling }, { contextLength }) {
    if (!scaling) return contextLength;
    return scaling.kind === 'dynamic' ? undefined : scaling.factor * contextLength;
  },

  headDimFault: (headDim) =>
    headDim % 2 === 0 ? undefined : `expected an even number with RoPE, which rotates pairs; it is ${headDim}`,

  toHuggingFace({ theta, scaling }, { headDim, contextLength }): Json {
    if (!scaling) return { rope_theta: theta, rope_scaling: null };
    // transformers has no static NTK, which is the same as a larger theta.
    if (scaling.kind === 'ntk')
      return { rope_theta: theta * scaling.factor ** (headDim / (headDim - 2)), rope_scaling: null };
    const keys = { rope_theta: theta, rope_scaling: { rope_type: scaling.kind, factor: scaling.factor } };
    if (scaling.kind === 'linear') return keys;
    // transformers compares a document's length with max_position_embeddings.
    return { ...keys, max_position_embeddings: scaling.originalContextLength ?? contextLength };
  },
});

/**
 * The scheme of a `config.json` written by `transformers`: version 4 has `rope_theta` and `rope_scaling`, version 5 has
 * both in `rope_parameters`.
 *
 * @throws UserError that names the key that is not supported, or contradicts another
 */
export function ropeFromHuggingFace(json: Json, file: string): z.input<typeof RopeSchema> {
  const rope = ropeSection(json, file);
  const key = <Schema extends z.ZodType>(name: string, schema: Schema) => readKey(rope, `${file}: RoPE`, name, schema);
  const theta = key('rope_theta', positive().nullish()) ?? 10_000;
  const kind = rope.rope_type ?? rope.type ?? 'default';
  if (kind !== 'default' && kind !== 'linear' && kind !== 'dynamic') {
    throw new UserError(`${file}: RoPE scaling ${say(kind)} is not supported; expected default, linear or dynamic.`);
  }
  const unknown = Object.keys(rope).find((name) => !sectionKeys.includes(name) && rope[name] !== null);
  if (unknown !== undefined) {
    throw new UserError(`${file}: RoPE's ${say(unknown)} is not supported; expected ${sectionKeys.join(', ')}.`);
  }
  refuseOthers(rope, `${file}: RoPE`, {
    partial_rotary_factor: [1],
    ...(kind === 'default' ? { factor: [1] } : {}),
    // Scaling begins at max_position_embeddings, whatever this key says.
    original_max_position_embeddings: [json.max_position_embeddings],
  });
  if (kind === 'default') return { kind: 'rope', theta };
  return { kind: 'rope', theta, scaling: { kind, factor: key('factor', factor) } };
}

const sectionKeys = [
  'rope_type',
  'type',
  'rope_theta',
  'factor',
  'partial_rotary_factor',
  'original_max_position_embeddings',
];

/** What the file says of RoPE, wherever it says it. */
function ropeSection(json: Json, file: string): Json {
  const section = z.record(z.string(), z.unknown(), { error: 'expected keys and values' }).nullish();
  const merged: Json = {};
  const places = {
    rope_theta: { rope_theta: json.rope_theta },
    rope_scaling: readKey(json, file, 'rope_scaling', section),
    rope_parameters: readKey(json, file, 'rope_parameters', section),
  };
  for (const [place, part] of Object.entries(places)) {
    for (const [name, value] of Object.entries(part ?? {})) {
      const before = merged[name] ?? value;
      if (before !== value && value !== null) {
        throw new UserError(
          `${file}: ${place} contradicts what stands elsewhere in the file: ${name} is ${say(value)} and ${say(before)}.`,
        );
      }
      if (before !== undefined) merged[name] = before;
    }
  }
  return merged;
}
