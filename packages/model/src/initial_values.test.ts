/** A new model's weights: drawn as the configuration says, since training at small scale depends on it. */
import { selectBackend } from '@stickbreaking/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type LlamaConfigInput, LlamaModel } from './index.js';

beforeAll(() => selectBackend('cpu'));

const sizes = {
  ...{ vocabSize: 200, hiddenSize: 64, intermediateSize: 96, numLayers: 2, numHeads: 4, numKvHeads: 2 },
  tieEmbeddings: false,
} satisfies LlamaConfigInput;

function valuesOf(config: LlamaConfigInput, seed = 0): Map<string, Float32Array> {
  const model = LlamaModel.create(config, { seed });
  const values = [...model.parameters].map(([name, one]) => [name, one.dataSync() as Float32Array] as const);
  model.dispose();
  return new Map(values);
}

const isMatrix = (name: string) => /(_proj|embed_tokens|lm_head)\.weight$/.test(name);

describe.each([
  ['the default', undefined, 0.02],
  ['one of its own', 0.3, 0.3],
])('initializerRange: %s', (_, initializerRange, deviation) => {
  const given = initializerRange === undefined ? {} : { initializerRange };
  it('is the standard deviation of every weight matrix, whose weights are normal around 0', () => {
    const values = [...valuesOf({ ...sizes, ...given })].filter(([name]) => isMatrix(name));
    expect(values).toHaveLength(2 + 2 * 7);
    for (const [name, weights] of values) {
      const n = weights.length; // the smallest matrix has 2048 weights
      const mean = weights.reduce((sum, x) => sum + x, 0) / n;
      const variance = weights.reduce((sum, x) => sum + (x - mean) ** 2, 0) / n;
      const within = weights.filter((x) => Math.abs(x) < deviation).length / n;
      // Five standard errors.
      expect(Math.abs(mean), name).toBeLessThan((5 * deviation) / Math.sqrt(n));
      expect(Math.abs(Math.sqrt(variance) / deviation - 1), name).toBeLessThan(5 / Math.sqrt(2 * n));
      expect(Math.abs(within - 0.6827), name).toBeLessThan((5 * 0.4655) / Math.sqrt(n));
    }
  });
});

it('draws every matrix apart, the same for the same seed alone', () => {
  const [a, b, other] = [valuesOf(sizes, 1), valuesOf(sizes, 1), valuesOf(sizes, 2)];
  const beginnings = [...a].filter(([name]) => isMatrix(name)).map(([, weights]) => weights.slice(0, 8).join());
  expect(new Set(beginnings).size).toBe(beginnings.length);
  expect(b).toEqual(a);
  for (const [name, weights] of a) if (isMatrix(name)) expect(other.get(name), name).not.toEqual(weights);
});

it('begins norms at one, and what a head adds of its own at nothing', () => {
  const attention = { kind: 'stick-breaking', headNorm: true, remainderBias: true } as const;
  const values = [...valuesOf({ ...sizes, attention })].filter(([name]) => !isMatrix(name));
  for (const [name, weights] of values) {
    expect(new Set(weights), name).toEqual(new Set([name.endsWith('norm.weight') ? 1 : 0]));
  }
  expect(values).toHaveLength(1 + 2 * (2 + 3));
});

it('begins FIRE as published: c 0.1, threshold multiplier 1, and linear layers as torch draws them', () => {
  const width = 32;
  const values = valuesOf({ ...sizes, attention: { kind: 'softmax', position: { kind: 'fire', width } } });
  const of = (name: string) => [...values.get(`model.layers.1.self_attn.fire.${name}`)!];
  expect(of('c')).toEqual([Math.fround(0.1)]);
  expect(of('threshold_multiplier')).toEqual([1]);
  for (const [name, bound] of [
    ['w1.weight', 1],
    ['w1.bias', 1],
    ['w2.weight', 1 / Math.sqrt(width)],
    ['w2.bias', 1 / Math.sqrt(width)],
  ] as const) {
    const largest = Math.max(...of(name).map(Math.abs));
    expect(largest, name).toBeLessThan(bound);
    if (of(name).length < width) continue; // the four biases of w2
    expect(largest, name).toBeGreaterThan(0.8 * bound);
    expect(Math.min(...of(name)), name).toBeLessThan(-0.6 * bound);
  }
});
