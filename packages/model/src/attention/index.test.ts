import { chooseSeed } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { randomNormal, type Tensor2D, type Tensor3D, tensor, variable } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type LlamaConfigInput, parseConfig } from '../config.js';
import { parametersIn, weightsOf } from '../parameter.js';
import { initialValues } from '../parameters.js';
import { attentionKind, attentionNames } from './index.js';
import { isStickBreaking } from './stick_breaking.js';

beforeAll(() => selectBackend('cpu'));

const seed = chooseSeed();
const sizes = { vocabSize: 8, hiddenSize: 12, intermediateSize: 8, numLayers: 1, numHeads: 3, headDim: 4 };

const rope = (scaling: object) => ({ kind: 'softmax', position: { kind: 'rope', scaling } });
const inputs = [
  ...attentionNames,
  { kind: 'stick-breaking', attendCurrent: true },
  { kind: 'stick-breaking', qkNorm: true, initialReach: [2, 40] },
  { kind: 'softmax', position: 'rope', qkNorm: true },
  { kind: 'softmax', position: 'alibi', window: 4 },
  { kind: 'softmax', position: 'rope', sink: true },
  { kind: 'softmax', position: { kind: 'forget', initialReach: [2, 30] }, qkNorm: true, window: 5 },
  rope({ kind: 'linear', factor: 3 }),
  rope({ kind: 'ntk', factor: 3 }),
  rope({ kind: 'dynamic', factor: 3, originalContextLength: 4 }),
] as LlamaConfigInput['attention'][];

it('is stick-breaking or not', () => {
  const all = inputs.map((attention) => parseConfig({ ...sizes, attention }).attention);
  expect(all.filter(isStickBreaking).map(({ attendCurrent }) => attendCurrent)).toEqual([false, true, false]);
});

describe.each(inputs)('%j', (input) => {
  const config = parseConfig({ ...sizes, attention: input });
  const { attention } = config;
  const kind = attentionKind(attention);
  const parameters = kind.parameters(attention, config);

  it('is taken by its schema as it is written out', () => {
    expect(kind.schema.parse(attention)).toEqual(attention);
  });

  it('keeps its parameters under names of their own, beside the projections', () => {
    const names = parametersIn(parameters).map((one) => one.name);
    expect(new Set(names).size).toBe(names.length);
    for (const one of names) expect(one).toMatch(/^self_attn\.(?![qkvo]_proj)/);
  });

  it('draws a matrix of what it mixes, whose rows leave a remainder only where it says so', () => {
    const tokens = 9;
    const [q, k, v] = [0, 1, 2].map((salt) =>
      randomNormal([tokens, sizes.numHeads, sizes.headDim], 0, 1, 'float32', seed + salt),
    ) as [Tensor3D, Tensor3D, Tensor3D];
    const variables = parametersIn(parameters).map((one) => {
      return [one.name, variable(tensor(initialValues(one, seed), [...one.shape]))] as const;
    });
    const weights = weightsOf(parameters, new Map(variables));
    const whole = Int32Array.of(0, tokens);
    const packed = { cuSeqlens: whole, cuSeqlensK: whole, consumed: false };
    const x = randomNormal([tokens, sizes.hiddenSize], 0, 1, 'float32', seed + 3) as Tensor2D;
    const gates = kind.gates?.(x, weights, attention);
    expect(gates?.shape).toEqual(kind.hasGates?.(attention) ? [tokens, sizes.numHeads] : undefined);
    const matrix = kind.matrix({ q, k, scale: 0.8, gates }, weights, attention, config);
    const mixed = matrix.matMul(v.transpose([1, 0, 2])).transpose([1, 0, 2]);
    const { output } = kind.attend({ q, k, v, scale: 0.8, gates, ...packed }, weights, attention, config);
    expect(output.sub(mixed).abs().max().dataSync()[0]).toBeLessThan(1e-5);
    const sums = [...matrix.sum(2).dataSync()];
    const least = Math.min(...sums);
    expect(Math.max(...sums)).toBeLessThan(1 + 1e-5);
    if (kind.leavesRemainder(attention)) expect(least).toBeLessThan(0.99);
    else expect(least).toBeGreaterThan(1 - 1e-5);
  });
});
