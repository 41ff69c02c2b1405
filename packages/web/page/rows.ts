/** What is drawn of a reading: one head of a layer, or the mean of all of its heads; and the row of one token in it. */
import type { Facts, Reading } from './engine.js';

export interface Chosen {
  layer: number;
  /** undefined: the mean of the layer's heads */
  head: number | undefined;
  /** The token that looks back; undefined: the last. */
  query: number | undefined;
}

/** Attention of N tokens: [N·N] weights and [N] remainders. */
export interface Attention {
  weights: Float32Array;
  remainder: Float32Array;
}

export function attentionOf(reading: Reading, { numHeads }: Facts, { layer, head }: Omit<Chosen, 'query'>): Attention {
  const length = reading.tokens.length;
  const parts = (values: Float32Array, size: number) =>
    head === undefined ? mean(values, size, numHeads) : values.subarray(head * size, (head + 1) * size);
  return {
    weights: parts(reading.weights[layer]!, length * length),
    remainder: parts(reading.remainders[layer]!, length),
  };
}

function mean(values: Float32Array, size: number, heads: number): Float32Array {
  return Float32Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let head = 0; head < heads; head++) sum += values[head * size + i]!;
    return sum / heads;
  });
}

/** Where one token looks. */
export interface Row {
  query: number;
  /** [query + 1] */
  weights: Float32Array;
  remainder: number;
}

export function rowOf(reading: Reading, facts: Facts, chosen: Chosen): Row {
  const { weights, remainder } = attentionOf(reading, facts, chosen);
  const length = reading.tokens.length;
  const query = chosen.query ?? length - 1;
  return { query, weights: weights.slice(query * length, query * length + query + 1), remainder: remainder[query]! };
}
