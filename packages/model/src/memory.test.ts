/** The estimate of memory, held to what a training step and a forward pass really allocate. */
import { selectBackend } from '@stickbreaking/core';
import { profile, type Tensor, type TensorContainer } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countParameters, estimateMemory, LlamaModel, parseConfig, type TokenBatch } from './index.js';

const sizes = { vocabSize: 32, hiddenSize: 64, numLayers: 6, numHeads: 4, numKvHeads: 2, contextLength: 256 };
const config = parseConfig({ ...sizes, intermediateSize: 160 });
const mixture = parseConfig({ ...sizes, experts: { count: 8, active: 2, intermediateSize: 80, shared: 32 } });

beforeAll(() => selectBackend('auto'));

function batchOf(tokens: number): TokenBatch {
  const ids = Int32Array.from({ length: tokens }, (_, i) => (7 * i) % config.vocabSize);
  return { tokens: ids, targets: ids, cuSeqlens: [0, tokens] };
}

/** Most bytes that were allocated at once, beside what was there before. */
async function peakOf(run: () => Tensor[]): Promise<number> {
  const { peakBytes } = await profile(() => {
    for (const one of run()) one.dispose();
    return null as unknown as TensorContainer;
  });
  return peakBytes;
}

/** Bytes that a token more needs: the difference between twice as many tokens and these. */
async function perToken(bytes: (tokens: number) => number | Promise<number>): Promise<number> {
  return ((await bytes(256)) - (await bytes(128))) / 128;
}

describe.each([
  ['a dense model', config],
  ['a mixture of experts', mixture],
] as const)('estimateMemory of %s', (_, config) => {
  let model: LlamaModel;
  beforeAll(() => {
    model = LlamaModel.create(config);
  });
  afterAll(() => model.dispose());

  it.each(['none', 'attention', 'block'] as const)('of a training step, computing again: %s', async (recompute) => {
    const measured = await perToken((tokens) =>
      peakOf(() => {
        const { loss, gradients, routing } = model.gradients(batchOf(tokens), { recompute });
        return [loss, ...gradients.values(), ...(routing ? [routing] : [])];
      }),
    );
    const estimate = await perToken((tokens) => estimateMemory(config, { tokens, training: true, recompute }));
    expect(estimate).toBeGreaterThan(0.8 * measured);
    expect(estimate).toBeLessThan(1.75 * measured);
  });

  it('of a forward pass', async () => {
    const measured = await perToken((tokens) => peakOf(() => [model.tokenLosses(batchOf(tokens))]));
    const estimate = await perToken((tokens) => estimateMemory(config, { tokens, training: false }));
    expect(estimate).toBeGreaterThan(0.9 * measured);
    expect(estimate).toBeLessThan(1.2 * measured);
  });
});

describe('estimateMemory', () => {
  it('counts weights once to run a model; to train it also gradients and two moments', () => {
    // At one token and with layers of hundreds of thousands of weights, activations are next to nothing.
    const large = parseConfig({ ...config, hiddenSize: 512, intermediateSize: 2048, headDim: 128 });
    const weights = 4 * countParameters(large);
    expect(estimateMemory(large, { tokens: 1, training: false }) / weights).toBeCloseTo(1, 1);
    expect(estimateMemory(large, { tokens: 1, training: true }) / weights).toBeCloseTo(4, 1);
  });
});
