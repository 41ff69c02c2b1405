/** The optimizer: what it clips, what decays, at which rate, and its formula. */
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel } from '@stickbreaking/model';
import { memory, type Scalar, scalar, tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Optimizer, OptimizerSchema } from './optimizer.js';

beforeAll(() => selectBackend('cpu'));

const sizes = { vocabSize: 5, hiddenSize: 4, intermediateSize: 4, numLayers: 1, numHeads: 1 };

/** The first moments after one update with gradients of 3, divided by what unclipped ones give. */
function scaleApplied(gradientNorm: number | Scalar, settings: { gradientClip?: number }): number {
  const model = LlamaModel.create(sizes);
  const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse(settings));
  const gradients = [...model.parameters].map(([name, { shape, size }]) => {
    return [name, tensor(new Float32Array(size).fill(3), shape)] as const;
  });
  optimizer.update(new Map(gradients), gradientNorm, 0.1);
  const { beta1, beta2 } = OptimizerSchema.parse({});
  const values = (moments: Optimizer['firstMoments']) => [...moments.values()].flatMap((one) => [...one.dataSync()]);
  const [first, second] = [values(optimizer.firstMoments), values(optimizer.secondMoments)];
  const scale = first[0]! / ((1 - beta1) * 3);
  for (const moment of first) expect(moment).toBeCloseTo((1 - beta1) * 3 * scale, 6);
  for (const moment of second) expect(moment).toBeCloseTo((1 - beta2) * (3 * scale) ** 2, 6);
  return scale;
}

describe('clipping', () => {
  it.each([
    // Norm, limit, factor.
    [0.001, 1, 1],
    [0.5, 1, 1],
    [1, 1, 1],
    [2, 1, 0.5],
    [1000, 1, 0.001],
    [2, 4, 1],
    [8, 4, 0.5],
    [1000, 0, 1],
    [0.001, 0, 1],
  ])('gradients of norm %d with a limit of %d are taken times %d', (norm, gradientClip, factor) => {
    expect(scaleApplied(norm, { gradientClip })).toBeCloseTo(factor, 6);
    expect(scaleApplied(scalar(norm), { gradientClip })).toBeCloseTo(factor, 6);
  });

  it.each([
    [1, Number.NaN],
    [1, Infinity],
    [0, Infinity],
  ])('with a limit of %d and a norm of %d on the device nothing changes', (gradientClip, norm) => {
    const model = LlamaModel.create(sizes);
    const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({ gradientClip }));
    const values = () =>
      [...model.parameters.values(), ...optimizer.state().values()].flatMap((x) => [...x.dataSync()]);
    const gradients = [...model.parameters].map(([name, { shape, size }]) => {
      return [name, tensor(new Float32Array(size).fill(3), shape)] as const;
    });
    const before = values();
    optimizer.update(new Map(gradients), scalar(norm), 0.1);
    expect(values()).toEqual(before);
    optimizer.takeBack();
    expect(optimizer.updates).toBe(0);
  });

  it('is at 1 unless told otherwise', () => {
    expect(scaleApplied(10, {})).toBeCloseTo(0.1, 6);
  });
});

describe('the rate and the decay', () => {
  it('are of the weight matrices inside the layers, of other matrices, and of the rest', () => {
    const attention = { kind: 'stick-breaking', headNorm: true, remainderBias: true } as const;
    const model = LlamaModel.create({ ...sizes, attention }, { seed: 1 });
    const settings = { weightDecay: 0.5, hiddenLearningRateScale: 0.25 };
    const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse(settings));
    const before = new Map([...model.parameters].map(([name, one]) => [name, one.dataSync()[0]!]));
    const gradients = [...model.parameters].map(([name, { shape, size }]) => {
      return [name, tensor(new Float32Array(size).fill(3), shape)] as const;
    });
    optimizer.update(new Map(gradients), 1, 0.1);
    // The first step of Adam moves every number by the rate, whatever the gradient's size.
    for (const [name, parameter] of model.parameters) {
      const isMatrix = /(_proj|embed_tokens|lm_head)\.weight$/.test(name);
      const rate = isMatrix && name.startsWith('model.layers.') ? 0.025 : 0.1;
      const was = before.get(name)!;
      expect(parameter.dataSync()[0], name).toBeCloseTo(was - rate * (isMatrix ? 0.5 : 0) * was - rate, 5);
    }
    // Those of a head are matrices by their rank alone.
    expect(model.parameters.get('model.layers.0.self_attn.head_norm.weight')!.rank).toBe(2);
    expect(model.parameters.get('model.layers.0.self_attn.remainder_bias')!.rank).toBe(2);
  });
});

it.each(['float32', 'bfloat16'] as const)(
  'gives its %s moments by name, and goes on from them as if it had never stopped',
  (momentType) => {
    const model = LlamaModel.create(sizes, { seed: 2 });
    const twin = LlamaModel.create(sizes, { seed: 2 });
    const settings = OptimizerSchema.parse({ momentType });
    const gradients = new Map(
      [...model.parameters].map(([name, { shape, size }]) => {
        return [
          name,
          tensor(
            Float32Array.from({ length: size }, (_, i) => Math.cos(i)),
            shape,
          ),
        ] as const;
      }),
    );
    const first = new Optimizer(model.parameters, settings);
    first.update(gradients, 1, 0.1);
    const state = first.state();
    expect([...state.keys()]).toEqual([
      ...[...model.parameters.keys()].map((name) => `firstMoment.${name}`),
      ...[...model.parameters.keys()].map((name) => `secondMoment.${name}`),
    ]);
    for (const [name, one] of twin.parameters) one.assign(model.parameters.get(name)!);
    const tensors = memory().numTensors;
    const second = new Optimizer(twin.parameters, settings, { updates: first.updates, restored: true });
    for (const [name, moment] of [...state].reverse()) second.restore(name, moment.dataSync() as Float32Array);
    expect([...second.state()].map(([name, { shape }]) => [name, shape])).toEqual(
      [...state].map(([name, { shape }]) => [name, shape]),
    );
    expect(memory().numTensors - tensors).toBe(state.size);
    for (const one of [first, second]) one.update(gradients, 1, 0.1);
    for (const [name, one] of twin.parameters) expect(one.dataSync()).toEqual(model.parameters.get(name)!.dataSync());
    second.dispose();
    expect(memory().numTensors).toBe(tensors);
  },
);

describe('AdamW over several updates', () => {
  it('follows its formula in float64, whatever the gradients do', () => {
    const model = LlamaModel.create(sizes, { seed: 3 });
    const settings = { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weightDecay: 0.2, gradientClip: 0 };
    const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse(settings));
    const start = [...model.parameters].map(([name, one]) => ({ name, rank: one.rank, values: [...one.dataSync()] }));
    const rates = [0.1, 0.05, 0.2];
    const gradient = (index: number, step: number) => Math.sin(index + 3 * step);
    rates.forEach((rate, step) => {
      const gradients = [...model.parameters].map(([name, { shape, size }]) => {
        return [
          name,
          tensor(
            Float32Array.from({ length: size }, (_, i) => gradient(i, step)),
            shape,
          ),
        ] as const;
      });
      optimizer.update(new Map(gradients), 1, rate);
    });
    expect(optimizer.updates).toBe(3);
    for (const { name, rank, values } of start) {
      const decay = rank >= 2 ? settings.weightDecay : 0;
      const found = model.parameters.get(name)!.dataSync();
      values.forEach((initial, i) => {
        let [weight, m, v] = [initial, 0, 0];
        rates.forEach((rate, step) => {
          m = settings.beta1 * m + (1 - settings.beta1) * gradient(i, step);
          v = settings.beta2 * v + (1 - settings.beta2) * gradient(i, step) ** 2;
          const [mHat, vHat] = [m / (1 - settings.beta1 ** (step + 1)), v / (1 - settings.beta2 ** (step + 1))];
          weight -= rate * (mHat / (Math.sqrt(vHat) + settings.epsilon) + decay * weight);
        });
        expect(found[i], `${name} ${i}`).toBeCloseTo(weight, 5);
      });
    }
  });
});

it('refuses a beta that is 1 in float32', () => {
  expect(OptimizerSchema.parse({ beta2: 0.9999999 }).beta2).toBe(0.9999999);
  for (const name of ['beta1', 'beta2'])
    expect(() => OptimizerSchema.parse({ [name]: 0.99999998 })).toThrow('expected a number that float32 tells from 1');
});

it('keeps moments in bfloat16 where it is told to, and in the mean as they are', () => {
  const model = LlamaModel.create({ ...sizes, vocabSize: 300, hiddenSize: 64, intermediateSize: 64 }, { seed: 4 });
  const exact = new Optimizer(model.parameters, OptimizerSchema.parse({}));
  const narrow = new Optimizer(model.parameters, OptimizerSchema.parse({ momentType: 'bfloat16' }));
  const gradients = new Map(
    [...model.parameters].map(([name, { shape, size }]) => [name, tensor(new Float32Array(size).fill(0.3), shape)]),
  );
  // Changes of a thousandth, which rounding to the nearest would lose: bfloat16's steps are of a 128th.
  for (let i = 0; i < 5; i++) for (const one of [exact, narrow]) one.update(gradients, 1, 0);
  const name = 'model.embed_tokens.weight';
  const [wanted, got] = [exact, narrow].map((one) => one.secondMoments.get(name)!.dataSync() as Float32Array);
  const bits = new Uint32Array(Float32Array.from(got!).buffer);
  expect(bits.every((one) => (one & 0xffff) === 0)).toBe(true);
  expect(new Set(got).size).toBeGreaterThan(1);
  const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
  expect(mean(got!) / mean(wanted!)).toBeCloseTo(1, 3);
});
