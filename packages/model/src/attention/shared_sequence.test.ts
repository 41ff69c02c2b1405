// Processes that share a sequence, one after another in this one. What a process gets in an exchange are the parts that the
// others gave in the round before: after as many rounds as there are exchanges, all of them are right.
import { selectBackend } from '@stickbreaking/core';
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { LlamaConfigInput } from '../config.js';
import { LlamaModel, ownTokens, type TokenBatch } from '../model.js';
import type { SequenceGroup } from './shared_sequence.js';

beforeAll(() => selectBackend('cpu'));

const SIZE = 2;

class Rounds {
  private before: Float32Array[][] = [];
  private now: Float32Array[][] = Array.from({ length: SIZE }, () => []);

  group(rank: number): SequenceGroup {
    const exchange = (parts: Tensor) => {
      const given = parts.dataSync().slice() as Float32Array;
      const number = this.now[rank]!.push(given) - 1;
      const each = given.length / SIZE;
      const result = new Float32Array(given.length);
      for (let from = 0; from < SIZE; from++)
        result.set((this.before[from]?.[number] ?? given).subarray(rank * each, (rank + 1) * each), from * each);
      return tensor(result, parts.shape);
    };
    return { rank, size: SIZE, exchange };
  }

  /** Exchanges of each process in the round that ends. */
  end(): number {
    this.before = this.now;
    this.now = Array.from({ length: SIZE }, () => []);
    expect(new Set(this.before.map(({ length }) => length)).size).toBe(1);
    return this.before[0]!.length;
  }
}

const sizes = { vocabSize: 40, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 4, headDim: 8 };
const length = 24;
const batch: TokenBatch = {
  tokens: Array.from({ length }, (_, i) => (i * 7 + 3) % 40),
  targets: Array.from({ length }, (_, i) => (i % 5 === 0 ? -1 : (i * 11 + 1) % 40)),
  cuSeqlens: [0, 5, 19, length],
};

function gradientsOf(model: LlamaModel, own: TokenBatch, options: Parameters<LlamaModel['gradients']>[1]) {
  const { loss, gradients } = model.gradients(own, { scale: 0.1, ...options });
  const values = new Map([...gradients].map(([name, one]) => [name, one.dataSync().slice() as Float32Array]));
  const value = loss.dataSync()[0]!;
  for (const one of [loss, ...gradients.values()]) one.dispose();
  return { loss: value, gradients: values };
}

describe('a sequence that two processes share', () => {
  const stick = { kind: 'stick-breaking', remainderBias: true, headNorm: true, qkNorm: true, initialReach: [2, 9] };
  it.each([
    ['stick-breaking', {}, 'none'],
    [stick, { numKvHeads: 2 }, 'attention'],
    ['softmax+rope', { projectionBiases: 'qkv' }, 'block'],
    [{ kind: 'softmax', position: { kind: 'none' }, window: 6, qkNorm: true }, {}, 'none'],
  ] as const)('has the loss and gradients of one: %j %j, recomputed: %s', (attention, more, recompute) => {
    const config = { ...sizes, contextLength: length, attention, ...more } as unknown as LlamaConfigInput;
    const model = LlamaModel.create(config, { seed: 3 });
    // So that no gradient is zero at the start.
    for (const one of model.parameters.values()) {
      const values = one.dataSync().map((x, i) => x + 0.3 * Math.sin(i + one.size));
      one.assign(tensor(values, one.shape));
    }
    const whole = gradientsOf(model, batch, { recompute });
    const rounds = new Rounds();
    let parts: ReturnType<typeof gradientsOf>[] = [];
    for (let round = 0, exchanges = 1; round <= exchanges; round++) {
      parts = Array.from({ length: SIZE }, (_, rank) => {
        const sequence = rounds.group(rank);
        return gradientsOf(model, ownTokens(batch, sequence), { recompute, sequence });
      });
      exchanges = rounds.end();
      expect(exchanges).toBeGreaterThanOrEqual(8);
    }
    expect(parts[0]!.loss + parts[1]!.loss).toBeCloseTo(whole.loss, 5);
    for (const [name, values] of whole.gradients) {
      const sums = values.map((_, i) => parts[0]!.gradients.get(name)![i]! + parts[1]!.gradients.get(name)![i]!);
      const most = Math.max(...values.map(Math.abs));
      expect(most, name).toBeGreaterThan(0);
      expect(Math.max(...values.map((x, i) => Math.abs(x - sums[i]!))) / most, name).toBeLessThan(2e-5);
    }
    model.dispose();
  });
});
