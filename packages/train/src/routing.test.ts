// What a step's routers have done, as metrics.jsonl says it: over micro-batches, layers and processes.
import { selectBackend } from '@stickbreaking/core';
import { type LlamaConfigInput, type LlamaModel, parseConfig, type TokenBatch } from '@stickbreaking/model';
import { memory, tensor2d } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { batchGradients } from './batch_gradients.js';
import type { Collective } from './collective.js';
import { RoutingSums } from './routing.js';
import { drawModel } from './start.js';

const sizes = { vocabSize: 20, hiddenSize: 8, numLayers: 2, numHeads: 2, contextLength: 8 } satisfies LlamaConfigInput;
const mixture = parseConfig({ ...sizes, experts: { count: 4, active: 2, intermediateSize: 6 } });
const dense = parseConfig({ ...sizes, intermediateSize: 6 });

beforeAll(() => selectBackend('cpu'));

describe('a step of a model with experts', () => {
  it('has the losses of its micro-batches by their share, and the counts of all', async () => {
    const before = memory().numTensors;
    const sums = new RoutingSums(mixture);
    const first = [
      [1.5, 8, 4, 2, 2, 0],
      [1, 6, 2, 2, 2, 2],
    ];
    const second = [
      [2.5, 4, 4, 4, 0, 0],
      [1, 2, 2, 2, 2, 2],
    ];
    sums.add(tensor2d(first), 0.75);
    sums.add(tensor2d(second), 0.25);
    const numbers = await sums.numbers();
    expect(memory().numTensors).toBe(before);
    expect(sums.metrics(numbers)).toEqual({
      balanceLoss: 0.75 * 1.25 + 0.25 * 1.75,
      zLoss: 0.75 * 7 + 0.25 * 3,
      busiest: (4 * 8) / 16,
      idleExperts: 1,
    });
  });

  it('has as many numbers in a process without a micro-batch, and none without experts', async () => {
    expect(await new RoutingSums(mixture).numbers()).toEqual(new Array(2 + 2 * 4).fill(0));
    const without = new RoutingSums(dense);
    expect(await without.numbers()).toEqual([]);
    expect(without.metrics([])).toBeUndefined();
  });

  it('has the loss of the language model alone, and the same in one process and in several', async () => {
    const batches = [0, 1, 2].map((at) => {
      const tokens = Array.from({ length: 8 }, (_, i) => (7 * i + 3 * at) % 20);
      return { tokens, targets: [...tokens.slice(1), -1], cuSeqlens: [0, 8] };
    });
    const model = await drawModel(mixture, 1);
    const alone = (await batchGradients(model, batches))!;
    const token = batches.map((batch) => model.loss(batch).dataSync()[0]!);
    expect(alone.loss).toBeCloseTo(token.reduce((a, b) => a + b) / 3, 5);
    const { balanceLoss, zLoss, busiest, idleExperts } = alone.routing!;
    expect(balanceLoss).toBeGreaterThan(0.9);
    expect(zLoss).toBeGreaterThan(0);
    expect(busiest).toBeGreaterThanOrEqual(1);
    expect(idleExperts).toBeGreaterThanOrEqual(0);
    // Each of two processes, with what the other adds.
    const ranks = await Promise.all([0, 1].map((rank) => gathered(model, batches, rank)));
    const all = ranks[0]!.map((_, i) => ranks.reduce((sum, numbers) => sum + numbers[i]!, 0));
    const sums = new RoutingSums(mixture).metrics(all.slice(1))!;
    expect(all[0]).toBeCloseTo(alone.loss, 6);
    for (const key of ['balanceLoss', 'zLoss', 'busiest', 'idleExperts'] as const)
      expect(sums[key]).toBeCloseTo(alone.routing![key], 6);
    model.dispose();
  });
});

/** The numbers that one of two processes gives to be summed. */
async function gathered(model: LlamaModel, batches: TokenBatch[], rank: number): Promise<number[]> {
  let given: readonly number[] = [];
  const collective: Collective = {
    rank,
    size: 2,
    sumTensors: (tensors) => Promise.resolve(tensors),
    sumNumbers: (numbers) => {
      given = numbers;
      return Promise.resolve(numbers);
    },
  };
  await batchGradients(model, batches, { collective });
  return [...given];
}
