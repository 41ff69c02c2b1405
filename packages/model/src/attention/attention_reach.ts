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
  const leavesRemainder = attentionKind(config.attention).leavesRemainder(config.attention);
  const reach: Required<AttentionReach> = { distance: [], remainder: [] };
  const observe = (observed: Pick<ObservedAttention, 'mix'>) => {
    const mixed = (valueAt: (position: number) => number) => mixOf(observed, positions, config, valueAt);
    const [high, low] = [mixed((position) => Math.floor(position / LOW)), mixed((position) => position % LOW)];
    // A kind that does not say itself what it leaves gives the sums of its weights where every value is one.
    const ones = leavesRemainder && !high.remainder ? mixed(() => 1).output : undefined;
    const shareOf = (row: number) => (ones ? ones[row]! : 1 - (high.remainder?.[row] ?? 0));
    let [rows, taken, distance] = [0, 0, 0];
    for (const [i, position] of positions.entries()) {
      if (position === 0) continue;
      for (let row = i * config.numHeads; row < (i + 1) * config.numHeads; row++) {
        rows++;
        taken += shareOf(row);
        distance += position * shareOf(row) - (LOW * high.output[row]! + low.output[row]!);
      }
    }
    reach.distance.push(distance / taken);
    reach.remainder.push(1 - taken / rows);
  };
  model.lastLogits(tokens, { cuSeqlens, observe }).dispose();
  return leavesRemainder ? reach : { distance: reach.distance };
}

function positionsIn(cuSeqlens: Int32Array): Int32Array {
  const positions = new Int32Array(cuSeqlens.at(-1)!);
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    for (let i = cuSeqlens[s]!; i < cuSeqlens[s + 1]!; i++) positions[i] = i - cuSeqlens[s]!;
  }
  return positions;
}

/** What each row [N, numHeads] makes of one number for each key, and what it leaves, where the attention says so. */
function mixOf(
  { mix }: Pick<ObservedAttention, 'mix'>,
  positions: Int32Array,
  { numKvHeads, headDim }: { numKvHeads: number; headDim: number },
  valueAt: (position: number) => number,
): { output: Float32Array; remainder: Float32Array | undefined } {
  const values = new Float32Array(positions.length * numKvHeads * headDim);
  for (const [i, position] of positions.entries()) {
    for (let h = 0; h < numKvHeads; h++) values[(i * numKvHeads + h) * headDim] = valueAt(position);
  }
  const { output, remainder } = mix(tensor3d(values, [positions.length, numKvHeads, headDim]));
  const mixed = output.dataSync().filter((_, at) => at % headDim === 0) as Float32Array;
  return { output: mixed, remainder: remainder?.dataSync() as Float32Array | undefined };
}
