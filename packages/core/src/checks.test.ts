/** Options that a kernel would receive as other numbers, or that make no sense, are refused by the public ops. */
import { UserError } from '@stickbreaking/base';
import {
  ones,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor1d,
  type Variable,
  variable,
} from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  adamW,
  headNorm,
  linearCrossEntropy,
  type Position,
  residual,
  residualRmsNorm,
  rmsNorm,
  rotaryEmbedding,
  selectBackend,
  softmaxAttention,
  stickBreakingAttention,
} from './index.js';

beforeAll(() => selectBackend('cpu'));

const heads = () => ones([4, 2, 4]) as Tensor3D;
const matrix = () => ones([2, 4]) as Tensor2D;
const vector = () => ones([4]) as Tensor1D;

const softmax = (options: object) =>
  softmaxAttention(heads(), heads(), heads(), { cuSeqlens: [0, 4], position: { kind: 'none' }, ...options });
const position = (value: object) => softmax({ position: value as Position });
const rope = (scaling: object) => position({ kind: 'rope', scaling });
const stick = (options: object) => stickBreakingAttention(heads(), heads(), heads(), { cuSeqlens: [0, 4], ...options });
const rotary = (options: object) =>
  rotaryEmbedding(heads(), heads(), { cuSeqlens: [0, 4], inverseFrequencies: Float64Array.of(1, 0.1), ...options });
const update = (options: object) => {
  const one = (): Variable[] => [variable(vector())];
  const moments = { firstMoments: one(), secondMoments: one() };
  const settings = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 1, gradientScale: 1 };
  adamW({ parameters: one(), gradients: [vector()], ...moments, weightDecays: [0.1], ...settings, ...options });
};
const crossEntropy = (options: object) => linearCrossEntropy(matrix(), matrix(), tensor1d([0, 1], 'int32'), options);

describe('options of the public ops', () => {
  it('are taken as they are when they fit', () => {
    softmax({ window: 2 ** 31 - 1, scale: 0 });
    position({ kind: 'alibi', slopes: [0, -1] });
    rope({ kind: 'dynamic', factor: 1, originalContextLength: 1 });
    stick({ cuSeqlens: Int32Array.of(0, 0, 4) });
    rotary({ firstPositions: [2 ** 31 - 5] });
    update({ weightDecays: [0], gradientScale: 0, step: 2 ** 31 - 1, beta1: 0 });
    crossEntropy({ logitScale: -1, ignoreIndex: -(2 ** 31) });
  });

  it.each<[() => unknown, string]>([
    [() => softmax({ window: 4294967297 }), 'softmaxAttention: window is 4294967297'],
    [() => softmax({ window: 0 }), 'window is 0; expected a whole number from 1 to 2147483647'],
    [() => softmax({ window: 1.5 }), 'window is 1.5'],
    [() => softmax({ window: Number.NaN }), 'window is NaN'],
    [() => softmax({ window: Number.POSITIVE_INFINITY }), 'window is Infinity'],
    [() => softmax({ window: '3' }), 'window is 3; expected a whole number'],
    [() => softmax({ scale: Number.NaN }), 'scale is NaN; expected a finite number'],
    [() => stick({ scale: 1e39 }), 'stickBreakingAttention: scale is 1e+39; expected a finite number that float32'],
    [() => stick({ cuSeqlens: [0, 1.5, 4] }), 'cuSeqlens[1] is 1.5'],
    [() => stick({ cuSeqlens: [0, 2 ** 32, 4] }), 'cuSeqlens[1] is 4294967296'],
    [() => stick({ cuSeqlens: [Number.NaN, 4] }), 'cuSeqlens[0] is NaN'],
    [() => stick({ cuSeqlensK: [0, undefined] }), 'cuSeqlensK[1] is undefined'],
    [() => position({ kind: 'alibi', slopes: [1, Number.NaN] }), 'slopes[1] is NaN'],
    [() => position({ kind: 'alibi', slopes: [1] }), '1 ALiBi slopes for 2 heads'],
    [() => position({ kind: 'rotary' }), 'position is rotary; expected none, rope, alibi, fire or keys'],
    [() => position({ kind: 'fire', initialThreshold: Number.NaN }), 'initialThreshold is NaN'],
    [() => position({ kind: 'rope', theta: 0 }), 'RoPE: theta is 0'],
    [() => position({ kind: 'rope', theta: Number.POSITIVE_INFINITY }), 'RoPE: theta is Infinity'],
    [
      () => rope({ kind: 'longrope', factor: 2 }),
      'kind is longrope; expected one of linear, ntk, dynamic, llama3, yarn',
    ],
    [() => rope({ kind: 'yarn', factor: 2 }), 'originalContextLength is undefined'],
    [() => rope({ kind: 'yarn', factor: 2, originalContextLength: 8, betaFast: 32 }), 'betaSlow is undefined'],
    [() => rope({ kind: 'llama3', factor: 2, originalContextLength: 8 }), 'lowFrequencyFactor is undefined'],
    [() => rope({ kind: 'linear', factor: Number.POSITIVE_INFINITY }), 'factor is Infinity'],
    [() => rope({ kind: 'dynamic', factor: 2 }), 'originalContextLength is undefined'],
    [() => rope({ kind: 'dynamic', factor: 2, originalContextLength: 0 }), 'originalContextLength is 0'],
    [() => rotary({ inverseFrequencies: Float64Array.of(1, Number.NaN) }), 'inverseFrequencies[1] is NaN'],
    [() => rotary({ firstPositions: [-1] }), 'firstPositions[0] is -1'],
    [() => rotary({ firstPositions: [0.5] }), 'firstPositions[0] is 0.5'],
    [() => rotary({ firstPositions: [2 ** 31 - 1] }), "the position of document 0's last key is 2147483651"],
    [() => update({ learningRate: Number.NaN }), 'adamW: learningRate is NaN'],
    [() => update({ weightDecays: [1e300] }), 'weightDecays[0] is 1e+300'],
    [() => update({ gradientScale: Number.POSITIVE_INFINITY }), 'gradientScale is Infinity'],
    [() => update({ beta1: 1 }), 'beta1 is 1; expected a number from 0, below 1'],
    [() => update({ beta2: -0.1 }), 'beta2 is -0.1'],
    [() => update({ epsilon: -1 }), 'epsilon is -1'],
    [() => update({ step: 0 }), 'step is 0'],
    [() => update({ step: 2 ** 31 }), 'step is 2147483648'],
    [() => crossEntropy({ logitScale: Number.NaN }), 'linearCrossEntropy: logitScale is NaN'],
    [() => crossEntropy({ ignoreIndex: 2 ** 32 }), 'ignoreIndex is 4294967296'],
    [() => rmsNorm(matrix(), vector(), Number.NaN), 'rmsNorm: epsilon is NaN'],
    [() => headNorm(heads(), matrix(), matrix(), -1), 'headNorm: epsilon is -1'],
    [() => residual(matrix(), matrix(), Number.NaN), 'residual: multiplier is NaN'],
    [() => residualRmsNorm(matrix(), matrix(), vector(), { multiplier: 1e39 }), 'residualRmsNorm: multiplier is 1e+39'],
  ])('refuses %s', (call, message) => {
    expect(call).toThrow(UserError);
    expect(call).toThrow(message);
  });
});
