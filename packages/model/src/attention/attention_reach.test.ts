import { selectBackend } from '@stickbreaking/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { attentionReach, type LlamaConfigInput, LlamaModel, parseConfig } from '../index.js';

beforeAll(() => selectBackend('native'));

const sizes = { vocabSize: 31, hiddenSize: 24, intermediateSize: 16, numLayers: 2, numHeads: 3, headDim: 8 };
const lengths = [90, 1, 200];
const cuSeqlens = Int32Array.of(0, 90, 91, 291);
const tokens = Int32Array.from({ length: 291 }, (_, i) => (i * i * 5 + i) % 31);

/** The same from the matrices of each document. */
function expected(model: LlamaModel) {
  const sums = Array.from({ length: sizes.numLayers }, () => ({
    rows: 0,
    taken: 0,
    distance: 0,
    tiles: 0,
    skipped: 0,
  }));
  for (const [s, length] of lengths.entries()) {
    const document = tokens.subarray(cuSeqlens[s], cuSeqlens[s + 1]);
    const observe = ({ layer, weights }: { layer: number; weights(): { dataSync(): ArrayLike<number> } }) => {
      const sum = sums[layer]!;
      for (const [at, weight] of Array.from(weights().dataSync()).entries()) {
        const [key, query] = [at % length, Math.floor(at / length) % length];
        if (query === 0) continue;
        if (key === 0) sum.rows++;
        sum.taken += weight;
        sum.distance += weight * (query - key);
      }
      countTiles(weights().dataSync(), length, sum);
    };
    model.lastLogits(document, { observe }).dispose();
  }
  return {
    distance: sums.map(({ distance, taken }) => distance / taken),
    remainder: sums.map(({ taken, rows }) => 1 - taken / rows),
    skipped: sums.map(({ tiles, skipped }) => skipped / tiles),
  };
}

/** Tiles of 64 queries and keys; those that lie farther than where all of a block's sticks are exhausted. */
function countTiles(weights: ArrayLike<number>, length: number, sum: { tiles: number; skipped: number }) {
  for (let head = 0; head < sizes.numHeads; head++) {
    for (let begin = 0; begin < length; begin += 64) {
      for (let tile = 0; tile <= begin; tile += 64) {
        sum.tiles++;
        if (tile === begin) continue;
        let longest = 0;
        for (let query = begin; query < Math.min(begin + 64, length); query++) {
          const row = Array.from({ length: query + 1 }, (_, key) => weights[(head * length + query) * length + key]!);
          const near = row.slice(tile + 64).reduce((total, weight) => total + weight, 0);
          longest = Math.max(longest, 1 - near);
        }
        // In float32 a sum of weights says no more of what is left.
        if (longest < 1e-6) sum.skipped++;
      }
    }
  }
}

const kinds: Record<string, LlamaConfigInput['attention']> = {
  'stick-breaking': 'stick-breaking',
  'stick-breaking with everything': {
    ...{ kind: 'stick-breaking', attendCurrent: true, remainderBias: true, headNorm: true },
    initialReach: 12,
  },
  'softmax with RoPE': 'softmax+rope',
  'softmax with a sink': { kind: 'softmax', position: 'rope', sink: true },
  'softmax in a window': { kind: 'softmax', position: 'alibi', window: 9 },
};

describe('how far back each layer looks', () => {
  it.each(Object.entries(kinds))('is what its weights say: %s', (name, attention) => {
    const model = LlamaModel.create(parseConfig({ ...sizes, initializerRange: 0.4, attention }), { seed: 2 });
    const [found, wanted] = [attentionReach(model, { tokens, cuSeqlens }), expected(model)];
    for (const [layer, distance] of wanted.distance.entries()) {
      expect(found.distance[layer]! / distance).toBeCloseTo(1, 4);
      if (found.remainder) expect(found.remainder![layer]).toBeCloseTo(wanted.remainder[layer]!, 4);
    }
    expect(found.remainder !== undefined).toBe(/stick|sink/.test(name));
    expect(found.skipped !== undefined).toBe(/stick/.test(name));
    if (found.skipped) expect(found.skipped).toEqual(wanted.skipped);
    // Of a document of 200 tokens and one of 90, fresh sticks reach the tile before their own.
    if (name === 'stick-breaking') expect(Math.max(...found.skipped!)).toBeGreaterThan(0.2);
    model.dispose();
  });
});
