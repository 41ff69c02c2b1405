/**
 * The kernels of this package: names, inputs, attributes and outputs. A backend implements as many as it likes under
 * these names in tfjs's registry; the reference in plain tfjs ops serves it for the rest (`reference/register.ts`).
 *
 * Shapes: N queries, M keys, H heads, K key-value heads, D head dimension, S documents, C hidden size, V vocabulary.
 * All tensors are float32 unless said otherwise.
 */
import type { Tensor, TensorInfo } from '@tensorflow/tfjs-core';

/** Where documents begin and end, in queries and in keys; the queries of a document are the last of its keys. */
export interface PackedAttributes {
  /** [S+1] boundaries of the documents in q. */
  cuSeqlens: Int32Array;
  /** [S+1] boundaries of the documents in k and v. */
  cuSeqlensK: Int32Array;
  /** Factor on q·k. */
  scale: number;
}

export interface StickBreakingAttributes extends PackedAttributes {
  /** Whether a token may attend to itself. */
  attendCurrent: boolean;
}

export interface SoftmaxAttributes extends PackedAttributes {
  /** A query sees its last `window` keys, itself included; 0 sees all. */
  window: number;
  bias: 'none' | 'alibi' | 'fire';
  /** [H], with bias 'alibi': the logit of a key at distance d is lowered by slope·d. */
  alibiSlopes?: Float32Array;
  /** With bias 'fire': the initial length threshold, which `fireThreshold` multiplies. */
  fireInitialThreshold?: number;
}

/** FIRE's tensors as kernel inputs, in this order: w1 [W,1], b1 [W], w2 [H,W], b2 [H], c [1], threshold [1]. */
export interface FireInputs {
  fireW1: Tensor;
  fireB1: Tensor;
  fireW2: Tensor;
  fireB2: Tensor;
  fireC: Tensor;
  fireThreshold: Tensor;
}

/** Where the rows of a packed tensor stand in their documents. */
export interface RowPositions {
  /** [S+1] */
  cuSeqlens: Int32Array;
  /** [S] position of each document's first row. */
  firstPositions: Int32Array;
}

export interface RotaryAttributes {
  queries: RowPositions;
  keys: RowPositions;
  /** [D/2], or [S·D/2] where each document has its own. */
  inverseFrequencies: Float64Array;
  /** Rotate backwards (the gradient). */
  inverse: boolean;
}

export interface AdamWAttributes {
  /** One entry a parameter. */
  weightDecays: number[];
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** 1 at the first update. */
  step: number;
  /** Every gradient is multiplied by it first (clipping, averaging). */
  gradientScale: number;
}

export interface CrossEntropyAttributes {
  /** Factor on the logits. */
  logitScale: number;
  /** Rows with this target have loss 0 and no gradient. */
  ignoreIndex: number;
}

/** Of kernels that take no attributes. */
export type NoAttributes = Record<string, never>;

interface Qkv {
  /** [N, H, D] */
  q: Tensor;
  /** [M, K, D] */
  k: Tensor;
  /** [M, K, D] */
  v: Tensor;
}

/** Every kernel: `inputs`, `attrs`, and the `outputs` in order. */
export interface Kernels {
  /** output [N,H,D], remainder [N,H]; `saved` is whatever the backend keeps for its own backward (any shape). */
  StickBreakingAttention: {
    inputs: Qkv;
    attrs: StickBreakingAttributes;
    outputs: [output: Tensor, remainder: Tensor, saved: Tensor];
  };
  StickBreakingAttentionGrad: {
    inputs: Qkv & { remainder: Tensor; saved: Tensor; dOutput: Tensor; dRemainder: Tensor };
    attrs: StickBreakingAttributes;
    outputs: [dq: Tensor, dk: Tensor, dv: Tensor];
  };
  /** output [N,H,D], logSumExp [N,H]. Inputs arrive already rotated where RoPE is used; FIRE's come with bias 'fire'. */
  SoftmaxAttention: {
    inputs: Qkv & Partial<FireInputs>;
    attrs: SoftmaxAttributes;
    outputs: [output: Tensor, logSumExp: Tensor];
  };
  /** With bias 'fire' the gradients of its six inputs follow in their order. */
  SoftmaxAttentionGrad: {
    inputs: Qkv & Partial<FireInputs> & { output: Tensor; logSumExp: Tensor; dOutput: Tensor };
    attrs: SoftmaxAttributes;
    outputs: [dq: Tensor, dk: Tensor, dv: Tensor, ...dFire: Tensor[]];
  };
  /** q [N,H,D], k [M,K,D]; both turned. Pairs are (i, i + D/2), as Hugging Face's rotate_half has them. */
  RotaryEmbedding: { inputs: { q: Tensor; k: Tensor }; attrs: RotaryAttributes; outputs: [q: Tensor, k: Tensor] };
  /** x [N,C], weights [F,C]; x·weightᵀ of each. */
  Linears: { inputs: [x: Tensor, ...weights: Tensor[]]; attrs: NoAttributes; outputs: Tensor[] };
  /** dy [N,F] and weight [F,C] of each, in turns; dx is the sum of all dy·weight. */
  LinearsGrad: { inputs: Tensor[]; attrs: NoAttributes; outputs: [dx: Tensor] };
  /** sum [F,C], dy [N,F], x [N,C]; sum + dyᵀ·x. The sum is given up: it may change in place. */
  AddWeightGrad: { inputs: { sum: Tensor; dy: Tensor; x: Tensor }; attrs: NoAttributes; outputs: [sum: Tensor] };
  /** x [N,C], weight [C]; inverseRms [N]. */
  RMSNorm: {
    inputs: { x: Tensor; weight: Tensor };
    attrs: { epsilon: number };
    outputs: [y: Tensor, inverseRms: Tensor];
  };
  RMSNormGrad: {
    inputs: { x: Tensor; weight: Tensor; inverseRms: Tensor; dy: Tensor };
    attrs: NoAttributes;
    outputs: [dx: Tensor, dWeight: Tensor];
  };
  /** x, branch [N,C]; x + multiplier·branch. */
  Residual: { inputs: { x: Tensor; branch: Tensor }; attrs: { multiplier: number }; outputs: [y: Tensor] };
  /** The gradient of `branch`, multiplier·dy; that of `x` is dy itself. */
  ResidualGrad: { inputs: { dy: Tensor }; attrs: { multiplier: number }; outputs: [dBranch: Tensor] };
  /** x, branch [N,C], weight [C]; sum = x + multiplier·branch, its RMSNorm y, inverseRms [N]. */
  ResidualRMSNorm: {
    inputs: { x: Tensor; branch: Tensor; weight: Tensor };
    attrs: { epsilon: number; multiplier: number };
    outputs: [sum: Tensor, y: Tensor, inverseRms: Tensor];
  };
  /** dBranch = multiplier·dx is there where multiplier is not 1. */
  ResidualRMSNormGrad: {
    inputs: { sum: Tensor; weight: Tensor; inverseRms: Tensor; dSum: Tensor; dy: Tensor };
    attrs: { multiplier: number };
    outputs: [dx: Tensor, dWeight: Tensor, dBranch?: Tensor];
  };
  /** gate, up [N,F]; silu(gate)·up. */
  SwiGLU: { inputs: { gate: Tensor; up: Tensor }; attrs: NoAttributes; outputs: [y: Tensor] };
  SwiGLUGrad: {
    inputs: { gate: Tensor; up: Tensor; dy: Tensor };
    attrs: NoAttributes;
    outputs: [dGate: Tensor, dUp: Tensor];
  };
  /** x [N,H,D], weight and bias [H,D]; mean and inverseStd [N,H]. */
  HeadNorm: {
    inputs: { x: Tensor; weight: Tensor; bias: Tensor };
    attrs: { epsilon: number };
    outputs: [y: Tensor, mean: Tensor, inverseStd: Tensor];
  };
  HeadNormGrad: {
    inputs: { x: Tensor; weight: Tensor; mean: Tensor; inverseStd: Tensor; dy: Tensor };
    attrs: { epsilon: number };
    outputs: [dx: Tensor, dWeight: Tensor, dBias: Tensor];
  };
  /** output [N,H,D], remainder [N,H], bias [H,D]; output + remainder·bias. */
  RemainderBias: {
    inputs: { output: Tensor; remainder: Tensor; bias: Tensor };
    attrs: NoAttributes;
    outputs: [y: Tensor];
  };
  /** dRemainder [N,H], dBias [H,D]; the gradient of `output` is dy itself. */
  RemainderBiasGrad: {
    inputs: { remainder: Tensor; bias: Tensor; dy: Tensor };
    attrs: NoAttributes;
    outputs: [dRemainder: Tensor, dBias: Tensor];
  };
  /** tokens int32 [N], weight [V,C]; rows [N,C]. */
  Embedding: { inputs: { tokens: Tensor; weight: Tensor }; attrs: NoAttributes; outputs: [rows: Tensor] };
  /** dWeight [V,C]. */
  EmbeddingGrad: {
    inputs: { tokens: Tensor; dy: Tensor };
    attrs: { vocabSize: number };
    outputs: [dWeight: Tensor];
  };
  /** hidden [N,C], weight [V,C], targets int32 [N]; loss [N], logSumExp [N]. */
  LinearCrossEntropy: {
    inputs: { hidden: Tensor; weight: Tensor; targets: Tensor };
    attrs: CrossEntropyAttributes;
    outputs: [loss: Tensor, logSumExp: Tensor];
  };
  LinearCrossEntropyGrad: {
    inputs: { hidden: Tensor; weight: Tensor; targets: Tensor; logSumExp: Tensor; dLoss: Tensor };
    attrs: CrossEntropyAttributes;
    outputs: [dHidden: Tensor, dWeight: Tensor];
  };
  /** x0, x1, …; the Euclidean norm of all of them together, a scalar. */
  GlobalNorm: { inputs: { [name: `x${number}`]: Tensor }; attrs: NoAttributes; outputs: [norm: Tensor] };
  /** param0, grad0, m0, v0, param1, …; no output: parameters and moments change in place. */
  AdamW: {
    inputs: { [name: `${'param' | 'grad' | 'm' | 'v'}${number}`]: Tensor };
    attrs: AdamWAttributes;
    outputs: [];
  };
}

export type KernelName = keyof Kernels;
export type KernelAttributes<Name extends KernelName> = Kernels[Name]['attrs'];

/** The same names and places, of what a backend's kernel is given and gives. */
type InfosOf<Tensors> = { [Key in keyof Tensors]: TensorInfo };
export type KernelInputs<Name extends KernelName> = InfosOf<Kernels[Name]['inputs']>;
export type KernelOutputs<Name extends KernelName> = InfosOf<Kernels[Name]['outputs']>;

/** A kernel as the reference writes it: tensors in, tensors out, in the order that `Kernels` states. */
export type ReferenceKernel<Name extends KernelName> = (
  inputs: Kernels[Name]['inputs'],
  attrs: Kernels[Name]['attrs'],
) => Kernels[Name]['outputs'];

/** A kernel as a backend writes it. `Tools` is what the backend gives all of its kernels to work with. */
export type BackendKernel<Name extends KernelName, Tools> = (
  inputs: KernelInputs<Name>,
  attrs: KernelAttributes<Name>,
  tools: Tools,
) => KernelOutputs<Name>;

/** The kernels that a backend has of its own; the reference serves it for the rest. */
export type KernelTable<Tools> = { readonly [Name in KernelName]?: BackendKernel<Name, Tools> };
