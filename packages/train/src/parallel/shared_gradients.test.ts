// An update that is asked for before the host knows what is in it: of one process that shares its weights with nobody.
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel, type TokenBatch } from '@stickbreaking/model';
import { type Tensor1D, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { batchGradients, disposeAll } from '../batch_gradients.js';
import { type Collective, oneProcess } from '../collective.js';
import type { Mpi } from './mpi.js';
import { MpiSharedWeights } from './mpi_shared_weights.js';

beforeAll(() => selectBackend('cpu'));

const config = { vocabSize: 20, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 8 };
const batches: TokenBatch[] = [0, 1].map((n) => ({
  tokens: Array.from({ length: 8 }, (_, i) => (3 * i + n) % 20),
  targets: Array.from({ length: 8 }, (_, i) => (5 * i + n) % 20),
  cuSeqlens: [0, 8],
}));
const alone = {
  ...{ rank: 0, size: 1, sumNow: () => {} },
  floats: (length: number) => ({ address: 0n, values: new Float32Array(length) }),
} as unknown as Mpi;

function setUp() {
  const model = LlamaModel.create(config, { seed: 2 });
  const isMatrix = (_: string, { rank }: { rank: number }) => rank === 2;
  const weights = new MpiSharedWeights(alone, { begin: () => {}, end: () => {} }, model.parameters, isMatrix, {
    apart: false,
    rounds: false,
  });
  const asked: string[] = [];
  const collective: Collective = {
    ...oneProcess,
    gather: (numbers: Tensor1D) => {
      const values = numbers.dataSync();
      asked.push('gather');
      const rows = tensor2d(values, [1, values.length]) as Tensor2D;
      return { rows, values: rows.array() };
    },
  };
  return { model, weights, collective, asked };
}

it('a part of what was loaded keeps nothing else of its file in memory', () => {
  const { weights, model } = setUp();
  for (const [name, { size }] of model.parameters) {
    const loaded = new Float32Array(new ArrayBuffer(2 ** 16), 64, size).fill(3);
    const part = weights.partOf(name, loaded);
    expect(part).toEqual(new Float32Array(size).fill(3));
    expect(part.buffer.byteLength, name).toBe(4 * size);
  }
});

describe('shared gradients', () => {
  it('are given on with their norm before the host knows it', async () => {
    const { model, weights, collective, asked } = setUp();
    const plain = (await batchGradients(model, batches))!;
    let norm = 0;
    const result = (await batchGradients(model, batches, {
      ...{ weights, collective },
      early: (gradients, known) => {
        asked.push('early');
        norm = known.dataSync()[0]!;
        expect([...gradients.keys()].sort()).toEqual([...model.parameters.keys()].sort());
      },
    }))!;
    expect(asked).toEqual(['gather', 'early']);
    expect(result.loss).toBeCloseTo(plain.loss, 6);
    for (const one of [norm, result.gradientNorm]) expect(one).toBeCloseTo(plain.gradientNorm, 5);
    disposeAll(result.gradients);
    disposeAll(plain.gradients);
  });

  it('have no norm where the step is given up, so that the update that was asked for does nothing', async () => {
    const { model, weights, collective } = setUp();
    const norms: number[] = [];
    const result = await batchGradients(model, batches, {
      ...{ weights, collective, signal: AbortSignal.abort() },
      early: (_, norm) => void norms.push(norm.dataSync()[0]!),
    });
    expect(result).toBeUndefined();
    expect(norms).toEqual([Number.NaN]);
  });
});
