import './gradients.js';

export { forgettingBias } from './attention/forgetting.js';
export {
  alibiSlopes,
  type FireParameters,
  type Position,
  partialInverseFrequencies,
  type RopeScaling,
  ropeInverseFrequencies,
  yarnTemperature,
} from './attention/positions.js';
export { type RotaryOptions, rotaryEmbedding } from './attention/rotary.js';
export { type SoftmaxOptions, softmaxAttention } from './attention/softmax.js';
export {
  type PackedAttentionOptions,
  type StickBreakingOptions,
  stickBreakingAttention,
} from './attention/stick_breaking.js';
export { type AttentionRing, stickBreakingRing } from './attention/stick_breaking_ring.js';
export { MOST_WEIGHTED_TOKENS, softmaxWeights, stickBreakingWeights } from './attention/weights.js';
export { type BackendName, type SelectedBackend, selectBackend } from './backends/select.js';
export type { Ints } from './checks.js';
export {
  type DecodeStep,
  decodeStep,
  type SampledTokens,
  type SamplingRow,
  sampleTokens,
} from './decode_step.js';
export type {
  AdamWAttributes,
  BackendKernel,
  CrossEntropyAttributes,
  DecodeAttributes,
  FireInputs,
  KernelAttributes,
  KernelInputs,
  KernelName,
  KernelOutputs,
  Kernels,
  KernelTable,
  KeyBiasInput,
  MatmulAttributes,
  MatmulPrecision,
  MixtureAttributes,
  MomentType,
  NoAttributes,
  PackedAttributes,
  ReadByAttributes,
  ReferenceKernel,
  ResidualType,
  RotaryAttributes,
  RowPositions,
  SoftmaxAttributes,
  StickBreakingAttributes,
} from './kernels.js';
export { type AdamWOptions, adamW } from './ops/adamw.js';
export { type DecodeOptions, decodeAttention } from './ops/decode_attention.js';
export { embedding } from './ops/embedding.js';
export { globalNorm } from './ops/global_norm.js';
export { headNorm } from './ops/head_norm.js';
export { linear, linears } from './ops/linear.js';
export {
  type LinearCrossEntropyOptions,
  linearCrossEntropy,
  linearTargetScores,
  type TargetScores,
} from './ops/linear_cross_entropy.js';
export {
  type MixtureOptions,
  type MixtureWeights,
  mixtureOfExperts,
  type Routing,
} from './ops/mixture_of_experts.js';
export { growPages, readPages, writePages } from './ops/pages.js';
export { remainderBias } from './ops/remainder_bias.js';
export { residual } from './ops/residual.js';
export { type ResidualRmsNormOptions, residualRmsNorm } from './ops/residual_rms_norm.js';
export { rmsNorm } from './ops/rms_norm.js';
export { swiGlu } from './ops/swiglu.js';
export { toBfloat16 } from './ops/to_bfloat16.js';
export { recomputed, valueAndGradients } from './value_and_gradients.js';
