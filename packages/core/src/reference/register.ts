/** Registers the reference kernels for backends that lack their own, at the first op that runs on them. */
import { getKernel, type KernelFunc, registerKernel, type Tensor, type TensorInfo, tidy } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelInputs, KernelName, KernelOutputs, ReferenceKernel } from '../kernels.js';
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

/** Every kernel of the contract. */
export const kernelNames = Object.keys(referenceKernels) as KernelName[];

const served = new Set<string>();

export function ensureReferenceKernels(backendName: string): void {
  if (served.has(backendName)) return;
  served.add(backendName);
  for (const kernelName of kernelNames) {
    if (getKernel(kernelName, backendName)) continue;
    const kernelFunc: KernelFunc = ({ inputs, attrs }) => runUntyped(kernelName, inputs, attrs);
    registerKernel({ kernelName, backendName, kernelFunc });
  }
}

/** Runs the reference on the active backend, for inputs that a backend's own kernel leaves to it. */
export function runReference<Name extends KernelName>(
  name: Name,
  inputs: KernelInputs<Name>,
  attrs: KernelAttributes<Name>,
): KernelOutputs<Name> {
  return runUntyped(name, inputs, attrs) as KernelOutputs<Name>;
}

/** In tfjs's registry, which knows no types, inputs are what the op of that name gave: tensors of the active backend. */
function runUntyped(name: KernelName, inputs: object, attrs: object | undefined): TensorInfo[] {
  const run = referenceKernels[name] as unknown as (inputs: object, attrs: object | undefined) => Tensor[];
  // A tidy of its own frees what a kernel made on its way; the results outlive it.
  return tidy(() => run(inputs, attrs));
}
