// What a step's routers have done, as metrics.jsonl says it: over micro-batches, layers and processes.
import { selectBackend } from '@stickbreaking/core';
import {
  type LlamaConfig,
  type LlamaConfigInput,
  type LlamaModel,
  parseConfig,
  type TokenBatch,
} from '@stickbreaking/model';
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
    expect(sums.of(numbers)).toEqual({
      metrics: {
        balanceLoss: 0.75 * 1.25 + 0.25 * 1.75,
        zLoss: 0.75 * 7 + 0.25 * 3,
        busiest: (4 * 8) / 16,
        idleExperts: 1,
      },
      counts: [
        [8, 6, 2, 0],
        [4, 4, 4, 4],
      ],
    });
    const wrong = numbers.map((value, i) => (i === 6 + 1 ? Number.NaN : value));
    expect(sums.of(wrong)).toMatchObject({ notFinite: 1 });
  });

  it('has as many numbers in a process without a micro-batch, and none without experts', async () => {
    expect(await new RoutingSums(mixture).numbers()).toEqual(new Array(2 * (2 + 4)).fill(0));
    const without = new RoutingSums(dense);
    expect(await without.numbers()).toEqual([]);
    expect(without.of([])).toBeUndefined();
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
    const { balanceLoss, zLoss, busiest, idleExperts } = alone.routing!.metrics;
    expect(balanceLoss).toBeGreaterThan(0.9);
    expect(zLoss).toBeGreaterThan(0);
    expect(busiest).toBeGreaterThanOrEqual(1);
    expect(idleExperts).toBeGreaterThanOrEqual(0);
    // Each of two processes, with what the other adds.
    const ranks = await Promise.all([0, 1].map((rank) => gathered(model, batches, rank)));
    const all = ranks[0]!.map((_, i) => ranks.reduce((sum, numbers) => sum + numbers[i]!, 0));
    const sums = new RoutingSums(mixture).of(all.slice(1))!.metrics;
    expect(all[0]).toBeCloseTo(alone.loss, 6);
    for (const key of ['balanceLoss', 'zLoss', 'busiest', 'idleExperts'] as const)
      expect(sums[key]).toBeCloseTo(alone.routing!.metrics[key], 6);
    model.dispose();
  });
});

describe('a mixture that is balanced over steps', () => {
  const batch = () => {
    const tokens = Array.from({ length: 8 }, (_, i) => (7 * i) % 20);
    return { tokens, targets: [...tokens.slice(1), -1], cuSeqlens: [0, 8] };
  };
  const over = (balanceOver: 'microBatch' | 'step') =>
    parseConfig({ ...sizes, experts: { count: 4, active: 2, intermediateSize: 6, balance: 3, balanceOver } });
  const gradientOf = async (config: LlamaConfig, countsBefore?: readonly (readonly number[])[]) => {
    const model = await drawModel(config, 1);
    const { gradients, routing } = (await batchGradients(model, [batch()], { countsBefore }))!;
    const name = 'model.layers.1.block_sparse_moe.router.layer.weight';
    const values = [...gradients.get(name)!.dataSync()];
    model.dispose();
    return { values, counts: routing!.counts };
  };

  it('takes the shares of the step before, in the first step the micro-batch’s own', async () => {
    const own = await gradientOf(over('microBatch'));
    const first = await gradientOf(over('step'));
    const same = await gradientOf(over('step'), own.counts);
    const reversed = own.counts.map((counts) => counts.toReversed());
    const other = await gradientOf(over('step'), reversed);
    expect(first.values).toEqual(own.values);
    for (const [i, value] of own.values.entries()) expect(same.values[i]).toBeCloseTo(value, 5);
    expect(Math.max(...own.values.map((value, i) => Math.abs(value - other.values[i]!)))).toBeGreaterThan(1e-3);
    // Otherwise it asks nothing of the step before.
    expect((await gradientOf(over('microBatch'), reversed)).values).toEqual(own.values);
  });

  it('has the configuration of earlier versions where it is not', () => {
    expect(JSON.stringify(over('microBatch'))).not.toContain('balanceOver');
    expect(over('step').experts!.balanceOver).toBe('step');
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
