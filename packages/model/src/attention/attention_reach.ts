/** How far back a model looks, layer by layer: cheap enough to be taken at every validation. */
import { tensor3d } from '@tensorflow/tfjs-core';
import type { TokenBatch } from '../batch.js';
import type { LlamaModel } from '../model.js';
import type { ObservedAttention } from './attend.js';
import { attentionKind } from './index.js';
import { isStickBreaking } from './stick_breaking.js';

/** By layer, over all heads and all tokens that have another before them in their document. */
export interface AttentionReach {
  /** Mean distance in tokens of what is attended to; 0 is the token itself. */
  distance: number[];
  /** Mean of what no key took; absent with a kind that leaves nothing. */
  remainder?: number[];
  /**
   * With stick-breaking: the part of the attention's tiles, 64 queries by 64 keys of a document, that block skipping leaves out
   * on a GPU, because no stick of the tile's queries reaches so far.
   */
  skipped?: number[];
}

/** A position p is 64·high + low: both are exact in bfloat16 up to 16,384 tokens. */
const LOW = 64;

/** Queries, and keys, of a tile; and what is left of a stick that is exhausted, as the cuda backend has them. */
const TILE = 64;
const EXHAUSTED = 2 ** -20;

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
  const sticks = isStickBreaking(config.attention);
  const reach: Required<AttentionReach> = { distance: [], remainder: [], skipped: [] };
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
    if (sticks) reach.skipped.push(skippedTiles(observed, positions, cuSeqlens, config));
  };
  model.lastLogits(tokens, { cuSeqlens, observe }).dispose();
  const { distance, remainder, skipped } = reach;
  return { distance, ...(leavesRemainder ? { remainder } : {}), ...(sticks ? { skipped } : {}) };
}

function positionsIn(cuSeqlens: Int32Array): Int32Array {
  const positions = new Int32Array(cuSeqlens.at(-1)!);
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    for (let i = cuSeqlens[s]!; i < cuSeqlens[s + 1]!; i++) positions[i] = i - cuSeqlens[s]!;
  }
  return positions;
}

/** The part of all heads' tiles in which every stick is exhausted before it comes to them. */
function skippedTiles(
  { mix }: Pick<ObservedAttention, 'mix'>,
  positions: Int32Array,
  cuSeqlens: Int32Array,
  { numHeads, numKvHeads, headDim }: { numHeads: number; numKvHeads: number; headDim: number },
): number {
  const tileOf = (position: number) => Math.floor(position / TILE);
  const most = positions.reduce((highest, position) => Math.max(highest, tileOf(position)), 0);
  let [tiles, skipped] = [0, 0];
  // What the tiles so far, from the farthest on, and the remainder leave of each row's stick: it is left before the next tile.
  let left: Float32Array | undefined;
  for (let first = 0; first <= most; first += headDim) {
    const values = new Float32Array(positions.length * numKvHeads * headDim);
    for (const [i, position] of positions.entries()) {
      const at = tileOf(position) - first;
      if (at < 0 || at >= headDim) continue;
      for (let h = 0; h < numKvHeads; h++) values[(i * numKvHeads + h) * headDim + at] = 1;
    }
    const { output, remainder } = mix(tensor3d(values, [positions.length, numKvHeads, headDim]));
    const byTile = output.dataSync();
    left ??= Float32Array.from(remainder!.dataSync());
    for (let tile = first; tile < first + headDim && tile <= most; tile++) {
      for (let row = 0; row < left.length; row++) left[row]! += byTile[row * headDim + tile - first]!;
      for (let s = 0; s + 1 < cuSeqlens.length; s++) {
        // Blocks of queries that see the tile and lie beyond it.
        for (let begin = cuSeqlens[s]! + tile * TILE; begin < cuSeqlens[s + 1]!; begin += TILE) {
          tiles += numHeads;
          if (tileOf(positions[begin]!) === tile) continue;
          const end = Math.min(begin + TILE, cuSeqlens[s + 1]!);
          for (let head = 0; head < numHeads; head++) {
            let longest = 0;
            for (let i = begin; i < end; i++) longest = Math.max(longest, left[i * numHeads + head]!);
            if (longest < EXHAUSTED) skipped++;
          }
        }
      }
    }
  }
  return tiles > 0 ? skipped / tiles : 0;
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
