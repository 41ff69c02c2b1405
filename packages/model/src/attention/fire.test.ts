/** FIRE in a model: each of its parameters has the part that the paper gives it (https://arxiv.org/abs/2310.04418). */
import { selectBackend } from '@stickbreaking/core';
import { tensor } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { LlamaModel, type ObservedAttention, parseConfig } from '../index.js';

const [width, heads, headDim, initialThreshold] = [5, 2, 4, 6];
const config = parseConfig({
  ...{ vocabSize: 11, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: heads, headDim },
  initializerRange: 0.3,
  attention: { kind: 'softmax', position: { kind: 'fire', width, initialThreshold } },
});
// Unequal numbers for every parameter, so that none can stand in for another.
const fire: Record<string, number[]> = {
  'w1.weight': [0.9, -0.7, 0.5, 1.3, -0.2],
  'w1.bias': [0.1, 0.6, -0.1, -0.4, 0.3],
  'w2.weight': [1.1, -0.8, 0.6, 0.9, -1.4, 0.7, 0.2, -1.2, 0.4, 1.5],
  'w2.bias': [0.3, -0.5],
  c: [0.35],
  threshold_multiplier: [1.7],
};
const tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3];

/** f_θ(ψ(i − j) / ψ(max(L, i))) with ψ(x) = ln(|c|·x + 1), L the learned threshold and f_θ a layer of ReLUs. */
function bias(head: number, query: number, key: number): number {
  const [c] = fire.c!;
  const psi = (x: number) => Math.log(Math.abs(c!) * x + 1);
  const threshold = Math.abs(fire.threshold_multiplier![0]! * initialThreshold);
  const x = psi(query - key) / (psi(Math.max(threshold, query)) + 1e-6);
  const hidden = fire['w1.weight']!.map((w, i) => Math.max(0, w * x + fire['w1.bias']![i]!));
  const w2 = fire['w2.weight']!.slice(head * width, (head + 1) * width);
  return hidden.reduce((sum, h, i) => sum + w2[i]! * h, fire['w2.bias']![head]!);
}

function expected({ q, k, scale }: Pick<ObservedAttention, 'q' | 'k' | 'scale'>): number[] {
  const [queries, keys] = [q.dataSync(), k.dataSync()];
  const weights: number[] = [];
  for (let head = 0; head < heads; head++) {
    for (let query = 0; query < tokens.length; query++) {
      const row = tokens.map((_, key) => {
        if (key > query) return 0;
        let dot = 0;
        for (let d = 0; d < headDim; d++) {
          dot += queries[(query * heads + head) * headDim + d]! * keys[(key * heads + head) * headDim + d]!;
        }
        return Math.exp(scale * dot + bias(head, query, key));
      });
      const total = row.reduce((sum, weight) => sum + weight, 0);
      weights.push(...row.map((weight) => weight / total));
    }
  }
  return weights;
}

it('weighs keys by the published formula', async () => {
  await selectBackend('cpu');
  const model = LlamaModel.create(config, { seed: 4 });
  for (const [name, parameter] of model.parameters) {
    const own = /\.self_attn\.fire\.(.*)$/.exec(name)?.[1];
    if (own) parameter.assign(tensor(fire[own]!, parameter.shape));
  }
  let seen = 0;
  model.forward(tokens, {
    observe: (attention) => {
      const found = attention.weights().dataSync();
      const wanted = expected(attention);
      expect(found.length).toBe(wanted.length);
      for (const [i, weight] of wanted.entries()) expect(found[i]).toBeCloseTo(weight, 5);
      seen++;
    },
  });
  expect(seen).toBe(1);
  model.dispose();
});
