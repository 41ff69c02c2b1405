/** RoPE: queries and keys are rotated by angles that grow with their position (https://arxiv.org/abs/2104.09864). */

import { UserError } from '@stickbreaking/base';
import { partialInverseFrequencies, type RopeScaling, yarnTemperature } from '@stickbreaking/core';
import { z } from 'zod';
import { count, positive } from '../../bounds.js';
import { type Json, readKey, refuseOthers, say } from '../../huggingface_keys.js';
import { pairedForRotation } from '../partial_rotary.js';
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
  z
    .strictObject({
      kind: z.literal('llama3'),
      factor,
      lowFrequencyFactor: positive().default(1),
      highFrequencyFactor: positive().default(4),
      originalContextLength: count().default(8192),
    })
    .refine(({ lowFrequencyFactor: low, highFrequencyFactor: high }) => low < high, {
      error: 'expected lowFrequencyFactor below highFrequencyFactor',
    }),
  z.strictObject({
    kind: z.literal('yarn'),
    factor,
    /** Default: the model's contextLength. */
    originalContextLength: count().optional(),
    betaFast: positive().default(32),
    betaSlow: positive().default(1),
    /** What queries and keys are multiplied by; default: 0.1·ln(factor) + 1. */
    attentionFactor: positive().optional(),
  }),
]);

const RopeSchema = z
  .strictObject({
    kind: z.literal('rope'),
    theta: positive().default(10_000),
    scaling: RopeScalingSchema.optional(),
    /** Turn only this part of each head, its first dimensions, as Phi-3 does; default: all of it. */
    rotaryFraction: positive().max(1).optional(),
  })
  // What YaRN multiplies is the turned part alone, and not q·k as a whole.
  .refine(({ scaling, rotaryFraction }) => scaling?.kind !== 'yarn' || rotaryFraction === undefined, {
    error: 'expected no YaRN beside it',
    path: ['rotaryFraction'],
  });

type RopeConfig = z.output<typeof RopeSchema>;

/** How many dimensions of a head are turned. */
const rotatedOf = ({ rotaryFraction = 1 }: RopeConfig, headDim: number) => Math.trunc(headDim * rotaryFraction);

/** With what it takes from the model filled in. */
function coreScaling(
  scaling: z.output<typeof RopeScalingSchema>,
  { contextLength }: { contextLength: number },
): RopeScaling {
  if (scaling.kind !== 'dynamic' && scaling.kind !== 'yarn') return scaling;
  return { ...scaling, originalContextLength: scaling.originalContextLength ?? contextLength };
}

export const rope = definePositionKind({
  headsAlike: true,
  inPython: ({ rotaryFraction }) => rotaryFraction === undefined,
  schema: RopeSchema,
  shorthand: 'rope',
  parameters: () => ({}),

  shape: (inputs, position) => pairedForRotation(inputs, rotatedOf(position, inputs.q.shape[2])),

  toCore: (position, _, model) => {
    const { theta, scaling } = position;
    return {
      ...({ kind: 'rope', theta, rotated: rotatedOf(position, model.headDim) } as const),
      ...(scaling ? { scaling: coreScaling(scaling, model) } : {}),
    };
  },

  temperature({ scaling }) {
    if (scaling?.kind !== 'yarn') return 1;
    return scaling.attentionFactor === undefined ? yarnTemperature(scaling.factor) : scaling.attentionFactor ** 2;
  },

  // Dynamic scaling changes every angle as a document grows.
  turnedBy(position, model) {
    const { theta, scaling } = position;
    if (scaling?.kind === 'dynamic') return undefined;
    const rotated = rotatedOf(position, model.headDim);
    return partialInverseFrequencies(model.headDim, rotated, theta, scaling && coreScaling(scaling, model));
  },

  decoding: ({ scaling }) => (scaling?.kind === 'dynamic' ? undefined : {}),

  reach({ scaling }, { contextLength }) {
    if (!scaling) return contextLength;
    if (scaling.kind === 'dynamic') return undefined;
    // The context length of a model that was trained with these is what it reaches with them.
    const original = scaling.kind === 'llama3' || scaling.kind === 'yarn' ? scaling.originalContextLength : undefined;
    return original === undefined ? scaling.factor * contextLength : Math.max(contextLength, scaling.factor * original);
  },

  headDimFault(position, headDim) {
    const rotated = rotatedOf(position, headDim);
    if (rotated > 0 && rotated % 2 === 0 && headDim % 2 === 0) return undefined;
    const turned = rotated === headDim ? '' : `, of which RoPE turns ${rotated}`;
    return `expected an even number with RoPE, which rotates pairs; it is ${headDim}${turned}`;
  },

  toHuggingFace({ theta, scaling, rotaryFraction }, { headDim, contextLength }): Json | undefined {
    if (rotaryFraction !== undefined) return undefined;
    if (!scaling) return { rope_theta: theta, rope_scaling: null };
    // transformers has no static NTK, which is the same as a larger theta.
    if (scaling.kind === 'ntk')
      return { rope_theta: theta * scaling.factor ** (headDim / (headDim - 2)), rope_scaling: null };
    const keys = { rope_theta: theta, rope_scaling: { rope_type: scaling.kind, factor: scaling.factor } };
    if (scaling.kind === 'linear') return keys;
    if (scaling.kind === 'llama3') {
      const { factor, lowFrequencyFactor, highFrequencyFactor, originalContextLength } = scaling;
      const rope_scaling = {
        ...{ rope_type: 'llama3', factor, low_freq_factor: lowFrequencyFactor, high_freq_factor: highFrequencyFactor },
        original_max_position_embeddings: originalContextLength,
      };
      return { rope_theta: theta, rope_scaling };
    }
    if (scaling.kind === 'yarn') {
      const { factor, betaFast, betaSlow, attentionFactor, originalContextLength = contextLength } = scaling;
      const rope_scaling = {
        ...{ rope_type: 'yarn', factor, beta_fast: betaFast, beta_slow: betaSlow },
        original_max_position_embeddings: originalContextLength,
        ...(attentionFactor === undefined ? {} : { attention_factor: attentionFactor }),
      };
      // Versions of transformers differ in whether they take the factor or this ratio.
      return { rope_theta: theta, rope_scaling, max_position_embeddings: Math.round(factor * originalContextLength) };
    }
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
  const theta = key('rope_theta', positive().nullish()) ?? (json.model_type === 'smollm3' ? 2_000_000 : 10_000);
  const kind = rope.rope_type ?? rope.type ?? 'default';
  if (typeof kind !== 'string' || !Object.hasOwn(ownKeys, kind)) {
    throw new UserError(
      `${file}: RoPE scaling ${say(kind)} is not supported; expected ${Object.keys(ownKeys).join(', ')}.`,
    );
  }
  const known = [...sectionKeys, ...ownKeys[kind as keyof typeof ownKeys]];
  const unknown = Object.keys(rope).find((name) => !known.includes(name) && rope[name] !== null);
  if (unknown !== undefined) {
    throw new UserError(`${file}: RoPE's ${say(unknown)} is not supported; expected ${known.join(', ')}.`);
  }
  const originalKey = 'original_max_position_embeddings';
  refuseOthers(rope, `${file}: RoPE`, {
    ...(json.model_type === 'phi3' ? {} : { partial_rotary_factor: [1] }),
    ...(kind === 'default' ? { factor: [1] } : {}),
    // Scaling begins at max_position_embeddings, whatever this key says.
    ...(kind === 'llama3' || kind === 'yarn' ? {} : { [originalKey]: [json.max_position_embeddings] }),
  });
  const fraction = key('partial_rotary_factor', positive().max(1).nullish()) ?? 1;
  const plain = { kind: 'rope' as const, theta, ...(fraction === 1 ? {} : { rotaryFraction: fraction }) };
  if (kind === 'default') return plain;
  if (kind === 'llama3') {
    const scaling = {
      ...({ kind, factor: key('factor', factor), originalContextLength: key(originalKey, count()) } as const),
      lowFrequencyFactor: key('low_freq_factor', positive()),
      highFrequencyFactor: key('high_freq_factor', positive()),
    };
    return { ...plain, scaling };
  }
  if (kind === 'yarn') {
    const attentionFactor = key('attention_factor', positive().nullish()) ?? undefined;
    const scaling = {
      ...({ kind, factor: key('factor', factor) } as const),
      originalContextLength: key(originalKey, count().nullish()) ?? undefined,
      betaFast: key('beta_fast', positive().nullish()) ?? 32,
      betaSlow: key('beta_slow', positive().nullish()) ?? 1,
      ...(attentionFactor === undefined ? {} : { attentionFactor }),
    };
    return { ...plain, scaling };
  }
  return { ...plain, scaling: { kind: kind as 'linear' | 'dynamic', factor: key('factor', factor) } };
}

/** The scaling kinds that are read, each with the keys that it has beside the others'. */
const ownKeys = {
  default: [],
  linear: [],
  dynamic: [],
  llama3: ['low_freq_factor', 'high_freq_factor'],
  yarn: ['beta_fast', 'beta_slow', 'attention_factor'],
} as const satisfies Record<string, readonly string[]>;

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
    rope_theta: { rope_theta: json.rope_theta, partial_rotary_factor: json.partial_rotary_factor },
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
