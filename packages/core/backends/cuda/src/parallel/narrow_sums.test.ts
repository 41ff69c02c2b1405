// Gradients that travel in bfloat16, against the same on the host: rounded once a process, added in float32 in the order of these.
import { registerBackend, setBackend, type TensorInfo, tensor, variable } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { HostDevice } from '../host_device.fixture.js';
import { matmulKernels } from '../ops/matmul.js';
import { Gpus } from './gpus.js';
import type { Communicator } from './nccl.js';
import { replayedStep, sizeOf } from './replayed.fixture.js';
import { ShardedWeights, type SharingOptions } from './sharded_weights.js';

let made = 0;

const SHAPES = {
  'model.embed_tokens.weight': [40, 16],
  'model.layers.0.norm.weight': [16],
  'model.layers.0.self_attn.q_proj.weight': [18, 16], // padded
  'model.layers.0.self_attn.o_proj.weight': [16, 13],
  'model.layers.1.mlp.down_proj.weight': [7, 5],
  'model.norm.weight': [16],
};

/** bfloat16 of the nearest even mantissa, by arithmetic on the number. */
function rounded(x: number): number {
  if (!Number.isFinite(x) || x === 0) return x;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), -126);
  const unit = 2 ** (exponent - 7);
  const steps = x / unit;
  const below = Math.floor(steps);
  const rest = steps - below;
  const up = rest > 0.5 || (rest === 0.5 && Math.abs(below % 2) === 1);
  const result = (up ? below + 1 : below) * unit;
  return Math.abs(result) >= 2 ** 128 ? Math.sign(x) * Infinity : result === 0 ? 0 * Math.sign(x) : result;
}

/** Of many sizes, ties among them, subnormal numbers, −0, and some that are infinite once they are rounded. */
const gradientOf = (name: string, batch: number) =>
  Float32Array.from({ length: sizeOf(SHAPES[name as keyof typeof SHAPES]) }, (_, i) => {
    if (i === 3) return -0;
    if (i === 5) return batch === 1 ? 3.4e38 : -1e-40;
    if (i === 6) return 1e-40 * (batch + 1);
    if (i % 4 === 0) return (256 + ((i + batch) % 128) * 2 + 1) / 2 ** 9; // halfway between two
    return Math.sin(i * (batch + 1)) * 10 ** ((i + batch) % 5);
  });

/** What each process adds up in float32, rounded, added in float32 in their order; and all in float64, nothing rounded. */
function twin(name: string, size: number, batches: number, apart: boolean) {
  const all = Array.from({ length: batches }, (_, batch) => gradientOf(name, batch));
  const lists: Float32Array[] = [];
  if (apart) lists.push(...all);
  else
    for (let rank = 0; rank < size; rank++) {
      const own = all.filter((_, batch) => batch % size === rank);
      lists.push(own.reduce((sum, one) => sum.map((x, i) => x + one[i]!)));
    }
  return {
    sum: lists.map((one) => one.map(rounded)).reduce((sum, one) => sum.map((x, i) => x + one[i]!)),
    exact: Array.from(all[0]!, (_, i) => all.reduce((sum, one) => sum + one[i]!, 0)),
    sizes: Array.from(all[0]!, (_, i) => all.reduce((sum, one) => sum + Math.abs(one[i]!), 0)),
  };
}

describe('gradients in bfloat16 are rounded once and added in float32', () => {
  it.each([
    ['one micro-batch each of two', 2, 2, {}],
    ['one each of eight', 8, 8, {}],
    ['one of one', 1, 1, {}],
    ['two each of two, which are added up before', 2, 4, {}],
    ['two each, each for itself', 2, 4, { shard: 'gradients' }],
    ['two each, in order', 2, 4, { orderedSums: true }],
    ['all of one, in order', 1, 4, { orderedSums: true }],
  ] as const)('%s', async (_, size, batches, how) => {
    const apart = 'shard' in how || 'orderedSums' in how;
    const { found, groups } = await replayedStep(SHAPES, { size, batches, reduceType: 'bfloat16', ...how }, gradientOf);
    for (const [name, sum] of found) {
      const want = twin(name, size, batches, apart);
      const isMatrix = SHAPES[name as keyof typeof SHAPES].length === 2;
      if (isMatrix) expect(sum, name).toEqual(want.sum);
      // Each of a few roundings is off by one in 256 at most; what is too large for float32 is infinite.
      for (const [i, x] of sum.entries())
        if (Math.abs(want.exact[i]!) < 3.3e38)
          expect(Math.abs(x - want.exact[i]!), `${name} ${i}`).toBeLessThanOrEqual(
            (want.sizes[i]! + 1e-36) * (isMatrix ? 2 ** -8 + 2 ** -20 : 2 ** -20),
          );
        else expect(x).toBe(isMatrix ? Infinity : Math.fround(want.exact[i]!));
    }
    // Which a norm sees.
    const sees = groups.flat().every(Number.isFinite) ? 'finite' : 'not finite';
    expect(sees).toBe(batches === 1 ? 'finite' : 'not finite');
  });

  it('whatever their number, in order', async () => {
    const how = { batches: 4, orderedSums: true, reduceType: 'bfloat16' } as const;
    const alone = await replayedStep(SHAPES, { ...how, size: 1 }, gradientOf);
    for (const size of [2, 4]) {
      const { found, groups } = await replayedStep(SHAPES, { ...how, size }, gradientOf);
      expect(found).toEqual(alone.found);
      expect(groups).toEqual(alone.groups);
    }
  });

  it('and half as many bytes of matrices travel', async () => {
    const step = (reduceType: 'float32' | 'bfloat16') =>
      replayedStep(SHAPES, { size: 2, batches: 2, reduceType }, gradientOf);
    const [wide, narrow] = [await step('float32'), await step('bfloat16')];
    const vectors = 2 * 16 * 4;
    expect(wide.sentBytes - vectors).toBe(2 * (narrow.sentBytes - vectors));
  });
});

describe('a matmul', () => {
  const [tokens, rows, columns] = [69, 16, 8]; // more than have a kernel of their own forward
  const name = 'model.layers.0.self_attn.o_proj.weight';
  const x = Float32Array.from({ length: tokens * columns }, (_, i) => ((i * 7) % 32) / 8);
  const dy = Float32Array.from({ length: tokens * rows }, (_, i) => ((i * 5) % 64) / 16 - 2);

  /** One process, which sends to itself. */
  function alone(names: readonly string[], how: SharingOptions) {
    const device = new HostDevice(2 ** 21);
    const backend = `narrow ${made++}`;
    registerBackend(backend, () => device.backend);
    setBackend(backend);
    const sends = {
      ...{ rank: 0, size: 1, memory: () => undefined },
      allToAll: (from: number, to: number, bytes: number) =>
        device.memory(to, bytes).set(device.memory(from, bytes).slice()),
      allReduce: () => {},
    };
    const gpus = new Gpus(device.backend, sends as unknown as Communicator);
    const zeros = () => variable(tensor(new Float32Array(rows * columns), [rows, columns]));
    const parameters = new Map(names.map((one) => [one, zeros()]));
    const weights = new ShardedWeights(gpus, parameters, () => true, { reduceType: 'bfloat16', ...how });
    return { device, weights };
  }

  /** [rows, columns], of dy [tokens, rows] and x. */
  const productOf = (dys: Float32Array) =>
    Float32Array.from({ length: rows * columns }, (_, at) => {
      const [r, c] = [Math.floor(at / columns), at % columns];
      let sum = 0;
      for (let t = 0; t < tokens; t++) sum += dys[t * rows + r]! * x[t * columns + c]!;
      return sum;
    });

  it('writes those of several weights in bfloat16 at once', () => {
    const names = ['q', 'k'].map((one) => `model.layers.0.self_attn.${one}_proj.weight`);
    const { device, weights } = alone(names, {});
    const { backend } = device;
    weights.beginStep();
    const gradients = weights.beginBatch(undefined, true);
    const input = tensor(x, [tokens, columns]);
    const values = [1, 2].map((n) => Float32Array.from({ length: rows * columns }, (_, i) => ((i * n) % 5) - 2));
    const ys = matmulKernels.Linears([input, ...values.map((one) => tensor(one, [rows, columns]))], {}, backend);
    const dys = ys.map(({ dataId }) => backend.readSync(dataId) as Float32Array);
    const sums = names.map((one) => gradients.get(one)!);
    const given = { x: input, dy0: ys[0], dy1: ys[1], sum0: sums[0], sum1: sums[1] };
    device.products.length = 0;
    const results = matmulKernels.WeightGrads(given as never, {}, backend);
    expect(device.products).toMatchObject([{ m: 2 * rows, n: columns, output: 'bf16', beta: 0 }]);
    for (const [i, one] of sums.entries()) {
      expect(backend.stored(results[i]!).address).toBe(backend.stored(one).address);
      backend.disposeData(results[i]!.dataId);
      gradients.set(names[i]!, weights.settle(names[i]!, one));
    }
    weights.endBatch();
    const found = weights.finishSums(gradients);
    for (const [i, one] of names.entries()) expect(found.get(one)!.dataSync()).toEqual(productOf(dys[i]!).map(rounded));
  });

  it.each([
    ['writes bfloat16 where nothing is added to it', {}, [true], ['bf16']],
    ['writes and adds up float32 otherwise', {}, [false, true], ['f32', 'f32']],
    ['writes bfloat16 of every micro-batch that is sent', { shard: 'gradients' }, [false, true], ['bf16', 'bf16']],
  ] as const)('%s', async (_, how, lasts, outputs) => {
    const { device, weights } = alone([name], how);
    const product = productOf(dy);
    for (let step = 0; step < 2; step++) {
      weights.beginStep();
      let gradients = undefined as Parameters<ShardedWeights['beginBatch']>[0];
      device.products.length = 0;
      for (const isLast of lasts) {
        gradients = weights.beginBatch(gradients, isLast);
        const sum = gradients.get(name)!;
        const inputs = { x: tensor(x, [tokens, columns]), dy0: tensor(dy, [tokens, rows]), sum0: sum };
        const [result] = matmulKernels.WeightGrads(inputs as never, {}, device.backend) as TensorInfo[];
        const { address } = device.backend.stored(sum);
        expect(device.backend.stored(result!).address).toBe(address);
        device.backend.disposeData(result!.dataId); // the alias; the tensor stays
        gradients.set(name, weights.settle(name, sum));
        weights.endBatch();
      }
      expect(device.products.map(({ output }) => output)).toEqual(outputs);
      const sums = weights.finishSums(gradients!);
      const want = product.map((one) => {
        if (lasts.length === 1) return rounded(one);
        return 'shard' in how ? 2 * rounded(one) : rounded(2 * one);
      });
      expect(sums.get(name)!.dataSync()).toEqual(want);
      for (const one of sums.values()) one.dispose();
    }
  });
});
