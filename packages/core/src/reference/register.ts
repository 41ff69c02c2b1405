/** Registers the reference kernels for backends that lack their own, at the first op that runs on them. */
import {
  getKernel,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  registerKernel,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core';
import type { KernelName, ReferenceKernel } from '../kernels.js';
import { adamW } from './adamw.js';
import { embedding, embeddingGrad } from './embedding.js';
import { globalNorm } from './global_norm.js';
import { linearCrossEntropy, linearCrossEntropyGrad } from './linear_cross_entropy.js';
import { addWeightGrad, linears, linearsGrad } from './linears.js';
import { headNorm, headNormGrad, rmsNorm, rmsNormGrad } from './norms.js';
import { remainderBias, remainderBiasGrad } from './remainder_bias.js';
import { residual, residualGrad, residualRmsNorm, residualRmsNormGrad } from './residual.js';
import { rotaryEmbedding } from './rotary.js';
import { softmaxAttention } from './softmax.js';
import { softmaxAttentionGrad } from './softmax_grad.js';
import { stickBreakingAttention, stickBreakingAttentionGrad } from './stick_breaking.js';
import { swiGlu, swiGluGrad } from './swiglu.js';

export const referenceKernels: { [Name in KernelName]: ReferenceKernel<Name> } = {
  StickBreakingAttention: stickBreakingAttention,
  StickBreakingAttentionGrad: stickBreakingAttentionGrad,
  SoftmaxAttention: softmaxAttention,
  SoftmaxAttentionGrad: softmaxAttentionGrad,
  RotaryEmbedding: rotaryEmbedding,
  Linears: linears,
  LinearsGrad: linearsGrad,
  AddWeightGrad: addWeightGrad,
  RMSNorm: rmsNorm,
  RMSNormGrad: rmsNormGrad,
  Residual: residual,
  ResidualGrad: residualGrad,
  ResidualRMSNorm: residualRmsNorm,
  ResidualRMSNormGrad: residualRmsNormGrad,
  SwiGLU: swiGlu,
  SwiGLUGrad: swiGluGrad,
  HeadNorm: headNorm,
  HeadNormGrad: headNormGrad,
  RemainderBias: remainderBias,
  RemainderBiasGrad: remainderBiasGrad,
  Embedding: embedding,
  EmbeddingGrad: embeddingGrad,
  LinearCrossEntropy: linearCrossEntropy,
  LinearCrossEntropyGrad: linearCrossEntropyGrad,
  GlobalNorm: globalNorm,
  AdamW: adamW,
};

const served = new Set<string>();

export function ensureReferenceKernels(backendName: string): void {
  if (served.has(backendName)) return;
  served.add(backendName);
  for (const [kernelName, kernel] of Object.entries(referenceKernels)) {
    if (getKernel(kernelName, backendName)) continue;
    const run = kernel as unknown as (inputs: NamedTensorInfoMap, attrs: NamedAttrMap | undefined) => Tensor[];
    registerKernel({
      kernelName,
      backendName,
      // A tidy of its own frees what a kernel made on its way; the results outlive it.
      kernelFunc: ({ inputs, attrs }) => tidy(() => run(inputs, attrs)),
    });
  }
}
