/**
 * How far sticks reach before anything is learned. With fresh weights z is about 0, so each key takes half of what is left
 * and a token sees about two others. A bias of −ln(r − 1) on z makes the share 1/r, and the mean distance r.
 *
 * The bias is the product of two learned vectors, one added to a head's queries and one to its keys: z gains their product,
 * which is the bias, and what they make of the query or key that they meet, which is small at first and learned. So it
 * needs nothing of the attention's kernels, is cached with the keys and has its gradient on every backend.
 */
import { remainderBias } from '@stickbreaking/core';
import { fill, type Tensor, type Tensor3D } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { constant, type Initializer, parameter } from '../parameter.js';
import { attentionScale, type ModelSizes } from '../sizes.js';
import type { QueriesAndKeys } from './attention_kind.js';

const reach = z
  .number()
  .gte(2, { error: 'expected a distance of at least 2 tokens, which is what sticks have without it' });

/** Mean distance in tokens at the start: of all heads, or of the first and the last with the others between. */
export const InitialReachSchema = z.union([reach, z.tuple([reach, reach])]);

export type InitialReach = z.output<typeof InitialReachSchema>;

/** The reach of each key-value head, [numKvHeads]; those between the first and the last are in equal ratios. */
export function reachesOf(initialReach: InitialReach, numKvHeads: number): number[] {
  const [first, last] = typeof initialReach === 'number' ? [initialReach, initialReach] : initialReach;
  return Array.from(
    { length: numKvHeads },
    (_, h) => first * (last / first) ** (numKvHeads > 1 ? h / (numKvHeads - 1) : 0),
  );
}

/**
 * Vectors whose product, times the factor on q·k, is the bias. The queries' is the same in all heads and not zero: where
 * both were, neither would have a gradient.
 */
export function initialReachParameters(initialReach: InitialReach | undefined, model: ModelSizes) {
  if (initialReach === undefined) return { queryBias: undefined, keyBias: undefined };
  const { numHeads, numKvHeads, headDim } = model;
  const wanted = reachesOf(initialReach, numKvHeads).map(
    (reach) => -Math.log(reach - 1) / (attentionScale(model) * headDim),
  );
  const size = Math.sqrt(Math.max(...wanted.map(Math.abs))) || 1;
  const byHead: Initializer = (values) => {
    for (const [h, product] of wanted.entries()) values.fill(product / size, h * headDim, (h + 1) * headDim);
  };
  return {
    queryBias: parameter('self_attn.query_bias', [numHeads, headDim], constant(size)),
    keyBias: parameter('self_attn.key_bias', [numKvHeads, headDim], byHead),
  };
}

/** With the vectors of `initialReachParameters`; as they are, where there are none. */
export function reaching(
  inputs: QueriesAndKeys,
  { queryBias, keyBias }: { queryBias: Tensor | undefined; keyBias: Tensor | undefined },
): QueriesAndKeys {
  if (!queryBias || !keyBias) return inputs;
  // What a remainder of one adds to every token.
  const add = (x: Tensor3D, bias: Tensor) => remainderBias(x, fill([x.shape[0], x.shape[1]], 1), bias);
  return { ...inputs, q: add(inputs.q, queryBias), k: add(inputs.k, keyBias) };
}
