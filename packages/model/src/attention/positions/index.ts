/** The position schemes of softmax attention. A new one is a file beside these and an entry in `positionKinds`. */
import { z } from 'zod';
import { alibi } from './alibi.js';
import { fire } from './fire.js';
import { forget } from './forget.js';
import { none } from './none.js';
import type { PositionKind } from './position_kind.js';
import { rope } from './rope.js';

export const positionKinds = [rope, alibi, fire, none, forget] as const;

export type PositionConfig = z.output<(typeof positionKinds)[number]['schema']>;

const byName: ReadonlyMap<string, PositionKind> = new Map(
  positionKinds.map((one) => [one.schema.shape.kind.value, one]),
);

export const positionKind = ({ kind }: PositionConfig): PositionKind => byName.get(kind)!;

const byDefault = (kind: string) => byName.get(kind)!.schema.parse({ kind }) as PositionConfig;
const [first, ...others] = positionKinds;

/** A scheme by its name alone, or with its options. */
export const PositionSchema = z
  .union([
    z.enum([...byName.keys()] as PositionConfig['kind'][]).transform(byDefault),
    z.discriminatedUnion('kind', [first.schema, ...others.map(({ schema }) => schema)]),
  ])
  .default(byDefault('rope'));
