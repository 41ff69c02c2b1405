/** How far back a model looks, layer by layer: cheap enough to be taken at every validation. */
import { tensor3d } from '@tensorflow/tfjs-core';
import type { LlamaModel, TokenBatch } from '../model.js';
import type { ObservedAttention } from './attend.js';
import { attentionKind } from './index.js';

/** By layer, over all heads and all tokens that have another before them in their document. */
export interface AttentionReach {
  /** Mean distance in tokens of what is attended to; 0 is the token itself. */
  distance: number[];
  /** Mean of what no key took; absent with a kind that leaves nothing. */
  remainder?: number[];
}

/** A position p is 64·high + low: both are exact in bfloat16 up to 16,384 tokens. */
const LOW = 64;

/** As many tokens say enough: more would only take time. */
const SAMPLE = 4096;

/**
 * Lets the attention mix the positions of tokens in place of their values, so that it takes O(N) memory on any backend.
 *
 * @param sample packed documents, of which the first 4,096 tokens are looked at
 */
export function attentionReach(model: LlamaModel, sample: Pick<TokenBatch, 'tokens' | 'cuSeqlens'>): AttentionReach {
  const { config } = model;
  const tokens = Int32Array.from(sample.tokens).subarray(0, SAMPLE);
  const cuSeqlens = Int32Array.from(sample.cuSeqlens, (boundary) => Math.min(boundary, tokens.length));
  const positions = positionsIn(cuSeqlens);
  const distance: number[] = [];
  const remainder: number[] = [];
  const { numKvHeads, headDim } = config;
  const observe = ({ mix }: Pick<ObservedAttention, 'mix'>) => {
    const mixed = mix(tensor3d(positionValues(positions, numKvHeads, headDim), [tokens.length, numKvHeads, headDim]));
    const found = meansOf(mixed.output.dataSync(), mixed.remainder?.dataSync(), positions, config);
    distance.push(found.distance);
    remainder.push(found.remainder);
  };
  model.lastLogits(tokens, { cuSeqlens, observe }).dispose();
  const { leavesRemainder } = attentionKind(config.attention);
  return { distance, ...(leavesRemainder ? { remainder } : {}) };
}

function positionsIn(cuSeqlens: Int32Array): Int32Array {
  const positions = new Int32Array(cuSeqlens.at(-1)!);
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    for (let i = cuSeqlens[s]!; i < cuSeqlens[s + 1]!; i++) positions[i] = i - cuSeqlens[s]!;
  }
  return positions;
}

/** [N, heads, headDim]: the high part of each position and, in the second place, the low one; zeros after them. */
function positionValues(positions: Int32Array, heads: number, headDim: number): Float32Array {
  const values = new Float32Array(positions.length * heads * headDim);
  for (const [i, position] of positions.entries()) {
    for (let h = 0; h < heads; h++) {
      const at = (i * heads + h) * headDim;
      values[at] = Math.floor(position / LOW);
      values[at + 1] = position % LOW;
    }
  }
  return values;
}

function meansOf(
  output: ArrayLike<number>,
  remainders: ArrayLike<number> | undefined,
  positions: Int32Array,
  { numHeads, headDim }: { numHeads: number; headDim: number },
): { distance: number; remainder: number } {
  let [rows, taken, distance] = [0, 0, 0];
  for (const [i, position] of positions.entries()) {
    if (position === 0) continue;
    for (let h = 0; h < numHeads; h++) {
      const row = i * numHeads + h;
      const share = 1 - (remainders?.[row] ?? 0);
      rows++;
      taken += share;
      distance += position * share - (LOW * output[row * headDim]! + output[row * headDim + 1]!);
    }
  }
  return { distance: distance / taken, remainder: 1 - taken / rows };
}
