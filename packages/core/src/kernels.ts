/**
 * The kernels of this package: names, inputs, attributes and outputs. A backend implements as many as it likes under
 * these names in tfjs's registry; the reference in plain tfjs ops serves it for the rest (`reference/register.ts`).
 *
 * Shapes: N queries, M keys, H heads, K key-value heads, D head dimension, S documents, C hidden size, V vocabulary.
 * All tensors are float32 unless said otherwise.
 */
import type { Tensor } from '@tensorflow/tfjs-core';

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

/** FIRE's tensors as kernel inputs: w1 [W,1], b1 [W], w2 [H,W], b2 [H], c [1], threshold [1]. */
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
  /** outputs: output [N,H,D], remainder [N,H], and whatever the backend keeps for its own backward (any shape). */
  StickBreakingAttention: { inputs: Qkv; attrs: StickBreakingAttributes };
  /** outputs: dq, dk, dv. */
  StickBreakingAttentionGrad: {
    inputs: Qkv & { remainder: Tensor; saved: Tensor; dOutput: Tensor; dRemainder: Tensor };
    attrs: StickBreakingAttributes;
  };
  /** outputs: output [N,H,D], logSumExp [N,H]. Inputs arrive already rotated where RoPE is used. */
  SoftmaxAttention: { inputs: Qkv & Partial<FireInputs>; attrs: SoftmaxAttributes };
  /** outputs: dq, dk, dv, and with FIRE the gradients of its six inputs in their order. */
  SoftmaxAttentionGrad: {
    inputs: Qkv & Partial<FireInputs> & { output: Tensor; logSumExp: Tensor; dOutput: Tensor };
    attrs: SoftmaxAttributes;
  };
  /** q [N,H,D], k [M,K,D]; outputs: both turned. Pairs are (i, i + D/2), as Hugging Face's rotate_half has them. */
  RotaryEmbedding: { inputs: { q: Tensor; k: Tensor }; attrs: RotaryAttributes };
  /** inputs x [N,C], then weights [F,C]; outputs: x·weightᵀ of each. */
  Linears: { inputs: Tensor[]; attrs: object };
  /** inputs dy [N,F] and weight [F,C] of each, in turns; outputs: dx, the sum of all dy·weight. */
  LinearsGrad: { inputs: Tensor[]; attrs: object };
  /** sum [F,C], dy [N,F], x [N,C]; outputs: sum + dyᵀ·x. The sum is given up: it may change in place. */
  AddWeightGrad: { inputs: { sum: Tensor; dy: Tensor; x: Tensor }; attrs: object };
  /** x [N,C], weight [C]; outputs: y, inverseRms [N]. */
  RMSNorm: { inputs: { x: Tensor; weight: Tensor }; attrs: { epsilon: number } };
  /** outputs: dx, dWeight. */
  RMSNormGrad: {
    inputs: { x: Tensor; weight: Tensor; inverseRms: Tensor; dy: Tensor };
    attrs: object;
  };
  /** x, branch [N,C]; outputs: x + multiplier·branch. */
  Residual: { inputs: { x: Tensor; branch: Tensor }; attrs: { multiplier: number } };
  /** outputs: the gradient of `branch`, multiplier·dy; that of `x` is dy itself. */
  ResidualGrad: { inputs: { dy: Tensor }; attrs: { multiplier: number } };
  /** x, branch [N,C], weight [C]; outputs: sum = x + multiplier·branch, its RMSNorm y, inverseRms [N]. */
  ResidualRMSNorm: {
    inputs: { x: Tensor; branch: Tensor; weight: Tensor };
    attrs: { epsilon: number; multiplier: number };
  };
  /** outputs: dx, dWeight and, where multiplier is not 1, dBranch = multiplier·dx. */
  ResidualRMSNormGrad: {
    inputs: { sum: Tensor; weight: Tensor; inverseRms: Tensor; dSum: Tensor; dy: Tensor };
    attrs: { multiplier: number };
  };
  /** gate, up [N,F]; outputs: silu(gate)·up. */
  SwiGLU: { inputs: { gate: Tensor; up: Tensor }; attrs: object };
  /** outputs: dGate, dUp. */
  SwiGLUGrad: { inputs: { gate: Tensor; up: Tensor; dy: Tensor }; attrs: object };
  /** x [N,H,D], weight and bias [H,D]; outputs: y, mean [N,H], inverseStd [N,H]. */
  HeadNorm: { inputs: { x: Tensor; weight: Tensor; bias: Tensor }; attrs: { epsilon: number } };
  /** outputs: dx, dWeight, dBias. */
  HeadNormGrad: {
    inputs: { x: Tensor; weight: Tensor; mean: Tensor; inverseStd: Tensor; dy: Tensor };
    attrs: { epsilon: number };
  };
  /** output [N,H,D], remainder [N,H], bias [H,D]; outputs: output + remainder·bias. */
  RemainderBias: { inputs: { output: Tensor; remainder: Tensor; bias: Tensor }; attrs: object };
  /** outputs: dRemainder [N,H], dBias [H,D]; the gradient of `output` is dy itself. */
  RemainderBiasGrad: { inputs: { remainder: Tensor; bias: Tensor; dy: Tensor }; attrs: object };
  /** tokens int32 [N], weight [V,C]; outputs: rows [N,C]. */
  Embedding: { inputs: { tokens: Tensor; weight: Tensor }; attrs: object };
  /** outputs: dWeight [V,C]. */
  EmbeddingGrad: { inputs: { tokens: Tensor; dy: Tensor }; attrs: { vocabSize: number } };
  /** hidden [N,C], weight [V,C], targets int32 [N]; outputs: loss [N], logSumExp [N]. */
  LinearCrossEntropy: {
    inputs: { hidden: Tensor; weight: Tensor; targets: Tensor };
    attrs: { logitScale: number; ignoreIndex: number };
  };
  /** outputs: dHidden, dWeight. */
  LinearCrossEntropyGrad: {
    inputs: { hidden: Tensor; weight: Tensor; targets: Tensor; logSumExp: Tensor; dLoss: Tensor };
    attrs: { logitScale: number; ignoreIndex: number };
  };
  /** inputs x0, x1, …; outputs: the Euclidean norm of all of them together, a scalar. */
  GlobalNorm: { inputs: Record<string, Tensor>; attrs: object };
  /** inputs param0, grad0, m0, v0, param1, …; no output: parameters and moments change in place. */
  AdamW: { inputs: Record<string, Tensor>; attrs: AdamWAttributes };
}

export type KernelName = keyof Kernels;

/** A kernel as the reference writes it: tensors in, tensors out, in the order that `Kernels` states. */
export type ReferenceKernel<Name extends KernelName> = (
  inputs: Kernels[Name]['inputs'],
  attrs: Kernels[Name]['attrs'],
) => Tensor[];
