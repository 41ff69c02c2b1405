// Processes that share a sequence, one after another in this one. What a process gets in an exchange is what the others gave in the
// round before, until a round gives what the one before it gave.
import { selectBackend } from '@stickbreaking/core';
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { ownTokens, type TokenBatch } from '../batch.js';
import type { LlamaConfigInput } from '../config.js';
import { LlamaModel } from '../model.js';
import type { SequenceGroup, SharedBy } from './shared_sequence.js';

beforeAll(() => selectBackend('cpu'));

const SIZE = 2;

class Rounds {
  private before: Float32Array[][] = [];
  private now: Float32Array[][] = Array.from({ length: SIZE }, () => []);

  group(rank: number, by: SharedBy): SequenceGroup {
    /** Gives a tensor's values; what each process gave in the round before. */
    const give = (x: Tensor) => {
      const given = x.dataSync().slice() as Float32Array;
      const number = this.now[rank]!.push(given) - 1;
      return { given, of: (from: number) => this.before[from]?.[number] ?? given };
    };
    const exchange = (parts: Tensor) => {
      const { given, of } = give(parts);
      const each = given.length / SIZE;
      const result = new Float32Array(given.length);
      for (let from = 0; from < SIZE; from++)
        result.set(of(from).subarray(rank * each, (rank + 1) * each), from * each);
      return tensor(result, parts.shape);
    };
    const shift = (tensors: readonly Tensor[], places: number) =>
      tensors.map((one) =>
        tensor(
          give(one)
            .of((rank - places + 2 * SIZE) % SIZE)
            .slice(),
          one.shape,
        ),
      );
    const most = (x: Tensor) => {
      const { given, of } = give(x);
      return Math.max(given[0]!, ...Array.from({ length: SIZE }, (_, from) => (from === rank ? 0 : of(from)[0]!)));
    };
    return { rank, size: SIZE, by, exchange, shift, most };
  }

  /** Ends a round: exchanges of each process in it, or undefined where it was not yet as the one before. */
  end(): number | undefined {
    const isSettled = JSON.stringify(this.now) === JSON.stringify(this.before);
    this.before = this.now;
    this.now = Array.from({ length: SIZE }, () => []);
    if (!isSettled) return undefined;
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
    ['stick-breaking', {}, 'none', 'heads'],
    [stick, { numKvHeads: 2 }, 'attention', 'heads'],
    ['softmax+rope', { projectionBiases: 'qkv' }, 'block', 'heads'],
    [{ kind: 'softmax', position: { kind: 'none' }, window: 6, qkNorm: true }, {}, 'none', 'heads'],
    [{ kind: 'stick-breaking', attendCurrent: true }, { numHeads: 3 }, 'block', 'ring'],
    [stick, { numKvHeads: 1 }, 'none', 'ring'],
  ] as const)('has the loss and gradients of one: %j %j, recomputed: %s, by %s', (attention, more, recompute, by) => {
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
    let exchanges: number | undefined;
    while (exchanges === undefined) {
      parts = Array.from({ length: SIZE }, (_, rank) => {
        const sequence = rounds.group(rank, by);
        return gradientsOf(model, ownTokens(batch, sequence), { recompute, sequence });
      });
      exchanges = rounds.end();
    }
    expect(exchanges).toBeGreaterThanOrEqual(by === 'heads' ? 8 : 6);
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
