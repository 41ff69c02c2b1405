/** The attention kinds. A new one is a file beside these and an entry in `kinds`; nothing else asks which kind it is. */
import { UserError } from '@stickbreaking/base';
import { z } from 'zod';
import type { ModelSizes } from '../sizes.js';
import type { AttentionKind } from './attention_kind.js';
import { softmax } from './softmax.js';
import { stickBreaking } from './stick_breaking.js';

const kinds = [stickBreaking, softmax] as const;

/** The `attention` section of a model's configuration, with all defaults filled in. */
export type AttentionConfig = z.output<(typeof kinds)[number]['schema']>;

const byName: ReadonlyMap<string, AttentionKind> = new Map(kinds.map((one) => [one.schema.shape.kind.value, one]));

/** The kind that a configuration selects. */
export const attentionKind = ({ kind }: AttentionConfig): AttentionKind => byName.get(kind)!;

/** The attention of one layer, from 0. */
export const attentionIn = (attention: AttentionConfig, layer: number): AttentionConfig =>
  (attentionKind(attention).inLayer?.(attention, layer) as AttentionConfig | undefined) ?? attention;

/** How many positions a model knows from training, where its attention has such a limit; undefined: any number. */
export function contextReach(config: { attention: AttentionConfig } & ModelSizes): number | undefined {
  return attentionKind(config.attention).reach?.(config.attention, config);
}

/** Whether the kernel for single new tokens serves a model's attention. */
export function isDecoded(config: { attention: AttentionConfig } & ModelSizes): boolean {
  return attentionKind(config.attention).decoding?.(config.attention, config) !== undefined;
}

const shorthands: ReadonlyMap<string, AttentionConfig> = new Map(
  [...byName.values()].flatMap(({ schema, shorthands }) =>
    Object.entries(shorthands).map(([name, input]) => [name, schema.parse(input) as AttentionConfig]),
  ),
);
/** The words by which a configuration may name its attention. */
export const attentionNames = [...shorthands.keys()];

export const AttentionSchema = z
  .union([z.enum(attentionNames).transform((name) => shorthands.get(name)!), ...kinds.map(({ schema }) => schema)], {
    error: `expected one of ${attentionNames.join(', ')}, or { kind: ${[...byName.keys()].join(' | ')}, … }`,
  })
  .default(shorthands.get('stick-breaking')!);

/** The attention of a `config.json` written by `transformers`: the first kind that recognises itself. */
export function attentionFromHuggingFace(json: Record<string, unknown>, file: string): z.input<typeof AttentionSchema> {
  for (const kind of byName.values()) {
    const found = kind.fromHuggingFace?.(json, file);
    if (found) return found as AttentionConfig;
  }
  throw new UserError(`${file}: the attention it describes is not supported.`);
}
