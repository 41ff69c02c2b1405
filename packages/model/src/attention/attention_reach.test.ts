import { selectBackend } from '@stickbreaking/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { attentionReach, type LlamaConfigInput, LlamaModel, parseConfig } from '../index.js';

beforeAll(() => selectBackend('native'));

const sizes = { vocabSize: 31, hiddenSize: 24, intermediateSize: 16, numLayers: 2, numHeads: 3, headDim: 8 };
const lengths = [90, 1, 70];
const cuSeqlens = Int32Array.of(0, 90, 91, 161);
const tokens = Int32Array.from({ length: 161 }, (_, i) => (i * i * 5 + i) % 31);

/** The same from the matrices of each document. */
function expected(model: LlamaModel) {
  const sums = Array.from({ length: sizes.numLayers }, () => ({ rows: 0, taken: 0, distance: 0 }));
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
    };
    model.lastLogits(document, { observe }).dispose();
  }
  return {
    distance: sums.map(({ distance, taken }) => distance / taken),
    remainder: sums.map(({ taken, rows }) => 1 - taken / rows),
  };
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
    model.dispose();
  });
});
