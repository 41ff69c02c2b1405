/** The contract's kernels, all of which the reference has: this list changes on purpose alone. */
import { selectBackend } from '@stickbreaking/core';
import { getKernel } from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { ensureReferenceKernels, kernelNames } from './register.js';

it('has every kernel of the contract', () => {
  expect([...kernelNames].sort()).toEqual([
    'AdamW',
    'DecodeAttention',
    'DocumentSums',
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
    'ResidualGrad',
    'ResidualRMSNorm',
    'ResidualRMSNormGrad',
    'RotaryEmbedding',
    'RotarySoftmaxAttention',
    'RotarySoftmaxAttentionGrad',
    'SoftmaxAttention',
    'SoftmaxAttentionGrad',
    'StickBreakingAttention',
    'StickBreakingAttentionGrad',
    'StickBreakingFarther',
    'StickBreakingFartherGrad',
    'SwiGLU',
    'SwiGLUGrad',
    'ToBfloat16',
    'WeightGrads',
    'WritePages',
  ]);
});

it("serves a backend of tfjs's own for all of them", async () => {
  await selectBackend('cpu');
  expect(kernelNames.filter((name) => getKernel(name, 'cpu'))).toEqual([]);
  ensureReferenceKernels('cpu');
  expect(kernelNames.filter((name) => !getKernel(name, 'cpu'))).toEqual([]);
});
