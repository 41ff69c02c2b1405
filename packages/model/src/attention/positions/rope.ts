/** RoPE: queries and keys are rotated by angles that grow with their position (https://arxiv.org/abs/2104.09864). */

import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { count, positive } from '../../bounds.js';
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

type Json = Record<string, unknown>;

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

/** The scheme of a `config.json` written by `transformers`, version 4 or 5. */
export function ropeFromHuggingFace(json: Json, file: string): z.input<typeof RopeSchema> {
  const rope = (json.rope_scaling ?? json.rope_parameters ?? undefined) as Json | undefined;
  const theta = Number(json.rope_theta ?? rope?.rope_theta ?? 10_000);
  const kind = rope?.rope_type ?? rope?.type ?? 'default';
  if (kind === 'default') return { kind: 'rope', theta };
  if (kind !== 'linear' && kind !== 'dynamic') {
    throw new UserError(`${file}: RoPE scaling '${kind}' is not supported; expected linear or dynamic.`);
  }
  return { kind: 'rope', theta, scaling: { kind, factor: Number(rope?.factor ?? 1) } };
}
