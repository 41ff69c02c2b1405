/** Which kernels the backend has of its own and which it leaves to others: these lists change only on purpose. */
import { kernelNames } from '@stickbreaking/core/backend';
import { getKernel } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { native } from './index.js';
import { nativeKernels } from './kernels.js';

it('has kernels of its own for these, and leaves the rest to the reference', () => {
  expect(Object.keys(nativeKernels.own).sort()).toEqual([
    'AdamW',
    'DecodeAttention',
    'Embedding',
    'EmbeddingGrad',
    'GlobalNorm',
    'GrowPages',
    'HeadNorm',
    'HeadNormGrad',
    'LinearCrossEntropy',
    'LinearCrossEntropyGrad',
    'Linears',
    'LinearsGrad',
    'MixtureOfExperts',
    'MixtureOfExpertsGrad',
    'RMSNorm',
    'RMSNormGrad',
    'ReadPages',
    'RemainderBias',
    'RemainderBiasGrad',
    'Residual',
    'ResidualRMSNorm',
    'ResidualRMSNormGrad',
    'RotaryEmbedding',
    'SoftmaxAttention',
    'SoftmaxAttentionGrad',
    'StickBreakingAttention',
    'StickBreakingAttentionGrad',
    'StickBreakingFarther',
    'StickBreakingFartherGrad',
    'SwiGLU',
    'SwiGLUGrad',
    'WeightGrads',
    'WritePages',
  ]);
  const left = kernelNames.filter((name) => !Object.hasOwn(nativeKernels.own, name));
  expect(left.sort()).toEqual([
    'DocumentSums',
    'ResidualGrad',
    'RotarySoftmaxAttention',
    'RotarySoftmaxAttentionGrad',
    'ToBfloat16',
  ]);
});

it("takes these of tfjs's own kernels over", () => {
  const taken = ['Add', 'AddN', 'BatchMatMul', 'Fill', 'Multiply', 'RealDiv', 'Sub', 'Sum'];
  expect(Object.keys(nativeKernels.tfjs).sort()).toEqual(taken);
});

const probed = await native.probe();
it.skipIf(!probed.available)('registers what the lists say', async () => {
  await native.activate();
  const registered = (name: string) => getKernel(name, 'native')?.kernelFunc;
  for (const name of Object.keys(nativeKernels.tfjs)) {
    expect(registered(name), name).not.toBe(getKernel(name, 'cpu').kernelFunc);
  }
  expect(registered('Tile')).toBe(getKernel('Tile', 'cpu').kernelFunc);
  // The reference takes its place at the first op that runs; none has.
  expect(kernelNames.filter((name) => registered(name)).sort()).toEqual(Object.keys(nativeKernels.own).sort());
});
