/** Clipping: gradients beyond the limit are scaled down to it, and those within it are left as they are. */
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel } from '@stickbreaking/model';
import { tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Optimizer, OptimizerSchema } from './optimizer.js';

beforeAll(() => selectBackend('cpu'));

const sizes = { vocabSize: 5, hiddenSize: 4, intermediateSize: 4, numLayers: 1, numHeads: 1 };

/** The first moments after one update with gradients of 3, divided by what unclipped ones give. */
function scaleApplied(gradientNorm: number, settings: { gradientClip?: number }): number {
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
  });

  it('is at 1 unless told otherwise', () => {
    expect(scaleApplied(10, {})).toBeCloseTo(0.1, 6);
  });
});

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
