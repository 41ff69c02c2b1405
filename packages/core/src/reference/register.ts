/** Registers the reference kernels for a backend that has no kernels of its own, when the first op runs on it. */
import { getKernel, type KernelFunc, registerKernel, type Tensor, type TensorInfo, tidy } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelInputs, KernelName, KernelOutputs, ReferenceKernel } from '../kernels.js';
import { adamW } from './adamw.js';
import { decodeAttention } from './decode_attention.js';
import { documentSums } from './document_sums.js';
import { embedding, embeddingGrad } from './embedding.js';
import { globalNorm } from './global_norm.js';
import { linearCrossEntropy, linearCrossEntropyGrad } from './linear_cross_entropy.js';
import { linears, linearsGrad, weightGrads } from './linears.js';
import { mixtureOfExperts, mixtureOfExpertsGrad } from './mixture_of_experts.js';
import { headNorm, headNormGrad, rmsNorm, rmsNormGrad } from './norms.js';
import { growPages, readPages, writePages } from './pages.js';
import { remainderBias, remainderBiasGrad } from './remainder_bias.js';
import { residual, residualGrad, residualRmsNorm, residualRmsNormGrad } from './residual.js';
import { rotaryEmbedding } from './rotary.js';
import { rotarySoftmaxAttention, rotarySoftmaxAttentionGrad } from './rotary_softmax.js';
import { softmaxAttention } from './softmax.js';
import { softmaxAttentionGrad } from './softmax_grad.js';
import {
  stickBreakingAttention,
  stickBreakingAttentionGrad,
  stickBreakingFarther,
  stickBreakingFartherGrad,
} from './stick_breaking.js';
import { swiGlu, swiGluGrad } from './swiglu.js';
import { toBfloat16 } from './to_bfloat16.js';

export const referenceKernels: { [Name in KernelName]: ReferenceKernel<Name> } = {
  StickBreakingAttention: stickBreakingAttention,
  StickBreakingAttentionGrad: stickBreakingAttentionGrad,
  StickBreakingFarther: stickBreakingFarther,
  StickBreakingFartherGrad: stickBreakingFartherGrad,
  SoftmaxAttention: softmaxAttention,
  SoftmaxAttentionGrad: softmaxAttentionGrad,
  RotaryEmbedding: rotaryEmbedding,
  RotarySoftmaxAttention: rotarySoftmaxAttention,
  RotarySoftmaxAttentionGrad: rotarySoftmaxAttentionGrad,
  GrowPages: growPages,
  WritePages: writePages,
  ReadPages: readPages,
  DecodeAttention: decodeAttention,
  Linears: linears,
  LinearsGrad: linearsGrad,
  WeightGrads: weightGrads,
  RMSNorm: rmsNorm,
  RMSNormGrad: rmsNormGrad,
  Residual: residual,
  ResidualGrad: residualGrad,
  ResidualRMSNorm: residualRmsNorm,
  ResidualRMSNormGrad: residualRmsNormGrad,
  SwiGLU: swiGlu,
  SwiGLUGrad: swiGluGrad,
  MixtureOfExperts: mixtureOfExperts,
  MixtureOfExpertsGrad: mixtureOfExpertsGrad,
  HeadNorm: headNorm,
  HeadNormGrad: headNormGrad,
  RemainderBias: remainderBias,
  RemainderBiasGrad: remainderBiasGrad,
  DocumentSums: documentSums,
  ToBfloat16: toBfloat16,
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

/** Runs the reference kernel on the active backend, for inputs that a backend's own kernel does not handle. */
export function runReference<Name extends KernelName>(
  name: Name,
  inputs: KernelInputs<Name>,
  attrs: KernelAttributes<Name>,
): KernelOutputs<Name> {
  return runUntyped(name, inputs, attrs) as KernelOutputs<Name>;
}

/** tfjs's registry is untyped; the inputs are those that the op of that name passed: tensors of the active backend. */
function runUntyped(name: KernelName, inputs: object, attrs: object | undefined): TensorInfo[] {
  const run = referenceKernels[name] as unknown as (inputs: object, attrs: object | undefined) => Tensor[];
  // This tidy frees a kernel's intermediate tensors; the results outlive it.
  return tidy(() => run(inputs, attrs));
}
