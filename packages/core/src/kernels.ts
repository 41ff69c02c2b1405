/**
 * The contract: the kernels of this package with their names, inputs, attributes and outputs. A backend implements as
 * many as it likes under these names in tfjs's registry; for the rest, the reference in plain tfjs ops runs
 * (`reference/register.ts`).
 *
 * Shapes: N queries, M keys, H heads, K key-value heads, D head dimension, S documents, C hidden size, V vocabulary,
 * E experts of F hidden units, k of them for each token.
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

/** Attributes of stick-breaking attention. */
export interface StickBreakingAttributes extends PackedAttributes {
  /** Whether a token may attend to itself. */
  attendCurrent: boolean;
}

/** Attributes of softmax attention. */
export interface SoftmaxAttributes extends PackedAttributes {
  /** A query sees its last `window` keys, itself included; 0 sees all. */
  window: number;
  bias: 'none' | 'alibi' | 'fire' | 'keys';
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

/** With bias 'keys': what is added to the logits of a key, [M,K]. */
export interface KeyBiasInput {
  keyBias: Tensor;
}

/** The positions of a packed tensor's rows in their documents. */
export interface RowPositions {
  /** [S+1] */
  cuSeqlens: Int32Array;
  /** [S] the position of each document's first row. */
  firstPositions: Int32Array;
}

/** Attributes of the rotary embedding. */
export interface RotaryAttributes {
  queries: RowPositions;
  keys: RowPositions;
  /** [D/2], or [S·D/2] where each document has its own. */
  inverseFrequencies: Float64Array;
  /** Rotate backwards (the gradient). */
  inverse: boolean;
}

/** Attributes of one step of generation: the new token of each document against the keys that are cached for it. */
export interface DecodeAttributes {
  /** [N] how many keys each document has, the new one included; 0 marks a row without a document, which is left out. */
  lengths: Int32Array;
  /** [N·B] the pages of each document in order, B for each row; what lies past its length is not looked at. */
  table: Int32Array;
  /** Factor on q·k. */
  scale: number;
  /** [D/2] of RoPE: q and the new keys are turned to their positions first, as the cached keys were. */
  inverseFrequencies?: Float64Array;
  /** Which attention, with the attributes of `StickBreakingAttention` or of `SoftmaxAttention` without FIRE. */
  attention:
    | { kind: 'stick-breaking'; attendCurrent: boolean }
    | { kind: 'softmax'; window: number; alibiSlopes?: Float32Array };
}

/** Settings of one AdamW update. */
export interface AdamWAttributes {
  /** One for each parameter. */
  weightDecays: number[];
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** 1 at the first update. */
  step: number;
  /** Every gradient is multiplied by it first (clipping, averaging). */
  gradientScale: number;
  /**
   * The form in which the moments are kept. In bfloat16 they are rounded up or down at random, in proportion to what is lost, so
   * that small changes add up; the random numbers follow from the step, the parameter's and the number's place alone. Default:
   * float32.
   */
  momentType?: MomentType;
}

/** How the optimizer's moments are stored. */
export type MomentType = 'float32' | 'bfloat16';

/**
 * How a layer's matmuls take their operands: as the backend holds them, or each row of both rounded to eight bits (e4m3, with a
 * float32 scale a row: the row's largest magnitude ÷ 448) and summed in float32. Gradients of weights are made as ever.
 */
export type MatmulPrecision = 'default' | 'fp8';

/** Attributes of matmuls. */
export interface MatmulAttributes {
  /** Default: 'default'. */
  precision?: MatmulPrecision;
}

/** A hint, which changes no result: with it, a backend may write what those matmuls read beside the result. */
export interface ReadByAttributes {
  /** The precision of the matmuls that read the result, or in a gradient the gradient. */
  readBy?: MatmulPrecision;
}

/**
 * How exactly a backend that holds activations in bfloat16 holds the residual stream and its gradient: as it holds the others, or
 * with eight bits more of each number's fraction.
 */
export type ResidualType = 'bfloat16' | 'fp24';

/** Attributes of what writes the residual stream, and in a gradient the stream's. */
export interface ResidualAttributes {
  /** Default: 'bfloat16'. */
  residualType?: ResidualType;
}

/** Attributes of a residual connection. */
export interface ConnectionAttributes extends ResidualAttributes {
  /** Factor on the branch. */
  multiplier: number;
  /** Whether all that reads x from now on is content with its bfloat16. */
  consumed?: boolean;
}

/** Attributes of a mixture of experts. */
export interface MixtureAttributes {
  /** k: how many experts each token has, from 1 to E. */
  active: number;
  /**
   * Factors on the balance loss and on the z loss of the routing: the gradient is that of what is differentiated with these
   * two as further terms of it.
   */
  balanceWeight: number;
  zWeight: number;
  /** [E], of which the balance loss's gradient takes the experts' shares: how often each was chosen, where that is not this x's. */
  balanceCounts?: readonly number[] | undefined;
}

/** Attributes of the output head with cross-entropy. */
export interface CrossEntropyAttributes {
  /** Factor on the logits. */
  logitScale: number;
  /** Rows with this target have loss 0 and no gradient. */
  ignoreIndex: number;
}

/** The attributes of kernels that take none. */
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
  /**
   * Stick-breaking attention to keys that are all farther than those that the queries have attended to before: a query sees all keys
   * of its document, the last of which is the nearest, however many there are. `stick` [N,H] is what nearer keys have left of
   * each stick. output [N,H,D]: what these keys add; remainder [N,H]: what they leave.
   */
  StickBreakingFarther: {
    inputs: Qkv & { stick: Tensor };
    attrs: PackedAttributes;
    outputs: [output: Tensor, remainder: Tensor, saved: Tensor];
  };
  /**
   * `farther` [N,H] is of each row Σ A·(dOutput·v) over the keys that are farther than these, and remainder·dRemainder of the last
   * remainder; `nearer` [N,H] is the same with these keys among them.
   */
  StickBreakingFartherGrad: {
    inputs: Qkv & { stick: Tensor; saved: Tensor; dOutput: Tensor; farther: Tensor };
    attrs: PackedAttributes;
    outputs: [dq: Tensor, dk: Tensor, dv: Tensor, nearer: Tensor];
  };
  /**
   * output [N,H,D], logSumExp [N,H]. With RoPE, q and k are already rotated; FIRE's inputs are present with bias
   * 'fire', `keyBias` with bias 'keys'.
   */
  SoftmaxAttention: {
    inputs: Qkv & Partial<FireInputs & KeyBiasInput>;
    attrs: SoftmaxAttributes;
    outputs: [output: Tensor, logSumExp: Tensor];
  };
  /** The gradients of the bias's inputs follow: FIRE's six in their order, or `keyBias`'s. */
  SoftmaxAttentionGrad: {
    inputs: Qkv & Partial<FireInputs & KeyBiasInput> & { output: Tensor; logSumExp: Tensor; dOutput: Tensor };
    attrs: SoftmaxAttributes;
    outputs: [dq: Tensor, dk: Tensor, dv: Tensor, ...dBias: Tensor[]];
  };
  /** q [N,H,D], k [M,K,D]; both rotated. Pairs are (i, i + D/2), as in Hugging Face's rotate_half. */
  RotaryEmbedding: { inputs: { q: Tensor; k: Tensor }; attrs: RotaryAttributes; outputs: [q: Tensor, k: Tensor] };
  /**
   * RotaryEmbedding, then SoftmaxAttention; also q and k as rotated, for the gradient. If they are `consumed`, the inputs q
   * and k may be changed in place.
   */
  RotarySoftmaxAttention: {
    inputs: Qkv;
    attrs: SoftmaxAttributes & { rotary: RotaryAttributes; consumed: boolean };
    outputs: [output: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor];
  };
  /** q and k as rotated; dq and dk are the gradients of q and k before that. */
  RotarySoftmaxAttentionGrad: {
    inputs: Qkv & { output: Tensor; logSumExp: Tensor; dOutput: Tensor };
    attrs: SoftmaxAttributes & { rotary: RotaryAttributes };
    outputs: [dq: Tensor, dk: Tensor, dv: Tensor];
  };
  /**
   * Memory for cached keys or values in pages of T tokens: [count,K,T,D], of which the first are the given pages, and the
   * rest hold nothing yet. A backend stores them as it stores activations.
   */
  GrowPages: { inputs: { pages: Tensor }; attrs: { count: number }; outputs: [pages: Tensor] };
  /**
   * k, v [N,K,D] to places in pages [P,K,T,D]; no output: the pages are changed in place. `slots` [N] are page·T + offset, all
   * different.
   */
  WritePages: {
    inputs: { k: Tensor; v: Tensor; keyPages: Tensor; valuePages: Tensor };
    attrs: { slots: Int32Array };
    outputs: [];
  };
  /** What lies at `slots` [M] of pages [P,K,T,D]: rows [M,K,D]. */
  ReadPages: { inputs: { pages: Tensor }; attrs: { slots: Int32Array }; outputs: [rows: Tensor] };
  /**
   * One new token of each of N documents: its k and v [N,K,D] are written to its document's pages [P,K,T,D] in place, then
   * its q [N,H,D] attends to all of the document's keys. output [N,H,D], remainder [N,H] (0 with softmax) and keysRead
   * int32 [N,K], how many keys a key-value head has read. A row's bits do not depend on the other rows.
   */
  DecodeAttention: {
    inputs: Qkv & { keyPages: Tensor; valuePages: Tensor };
    attrs: DecodeAttributes;
    outputs: [output: Tensor, remainder: Tensor, keysRead: Tensor];
  };
  /** x [N,C], weights [F,C]; x·weightᵀ of each. With N ≤ 64 and not in fp8 a row's bits do not depend on the other rows. */
  Linears: { inputs: [x: Tensor, ...weights: Tensor[]]; attrs: MatmulAttributes; outputs: Tensor[] };
  /** dy [N,F] and weight [F,C] of each, alternating; dx is the sum of all dy·weight. In fp8 a row has all dy of a token. */
  LinearsGrad: { inputs: Tensor[]; attrs: MatmulAttributes; outputs: [dx: Tensor] };
  /** x [N,C], dy0 [N,F], dy1, …; dyᵢᵀ·x of each, and sumᵢ [F,C] with it where that is given: the sum is consumed: it may be changed in place. */
  WeightGrads: {
    inputs: { x: Tensor } & { [name: `${'dy' | 'sum'}${number}`]: Tensor };
    attrs: NoAttributes;
    outputs: Tensor[];
  };
  /** x [N,C], weight [C]; inverseRms [N]. */
  RMSNorm: {
    inputs: { x: Tensor; weight: Tensor };
    attrs: { epsilon: number } & ReadByAttributes & ResidualAttributes;
    outputs: [y: Tensor, inverseRms: Tensor];
  };
  RMSNormGrad: {
    inputs: { x: Tensor; weight: Tensor; inverseRms: Tensor; dy: Tensor };
    attrs: ResidualAttributes;
    outputs: [dx: Tensor, dWeight: Tensor];
  };
  /** x, branch [N,C]; x + multiplier·branch. */
  Residual: { inputs: { x: Tensor; branch: Tensor }; attrs: ConnectionAttributes; outputs: [y: Tensor] };
  /** The gradient of `branch`, multiplier·dy. That of `x` is dy itself. */
  ResidualGrad: { inputs: { dy: Tensor }; attrs: { multiplier: number }; outputs: [dBranch: Tensor] };
  /** x, branch [N,C], weight [C]; sum = x + multiplier·branch, its RMSNorm y, inverseRms [N]. */
  ResidualRMSNorm: {
    inputs: { x: Tensor; branch: Tensor; weight: Tensor };
    attrs: { epsilon: number } & ConnectionAttributes & ReadByAttributes;
    outputs: [sum: Tensor, y: Tensor, inverseRms: Tensor];
  };
  /** dBranch = multiplier·dx is returned if multiplier is not 1; it, or dx, is what `readBy` speaks of. */
  ResidualRMSNormGrad: {
    inputs: { sum: Tensor; weight: Tensor; inverseRms: Tensor; dSum: Tensor; dy: Tensor };
    attrs: { multiplier: number } & ReadByAttributes & ResidualAttributes;
    outputs: [dx: Tensor, dWeight: Tensor, dBranch?: Tensor];
  };
  /** gate, up [N,F]; silu(gate)·up. */
  SwiGLU: { inputs: { gate: Tensor; up: Tensor }; attrs: ReadByAttributes; outputs: [y: Tensor] };
  SwiGLUGrad: {
    inputs: { gate: Tensor; up: Tensor; dy: Tensor };
    attrs: ReadByAttributes;
    outputs: [dGate: Tensor, dUp: Tensor];
  };
  /**
   * x [N,C], router [E,C], input [E,2F,C] (of each expert the rows of gate, then those of up), output [E,C,F]. The logits
   * x·routerᵀ choose each token's k experts, the largest first and of equal ones the lower, and g is the softmax over those:
   * y = Σ g·output(silu(gate)·up). `routing` [2+E] holds the balance loss E·Σₑ mean P·share, the z loss mean logSumExp², and how
   * often each expert was chosen. choices int32 [N,k]; logits [N,E] in float32; `saved` is whatever the backend keeps for its
   * own backward. With N ≤ 64 a row's bits in y do not depend on the other rows.
   */
  MixtureOfExperts: {
    inputs: { x: Tensor; router: Tensor; input: Tensor; output: Tensor };
    attrs: MixtureAttributes;
    outputs: [y: Tensor, routing: Tensor, choices: Tensor, logits: Tensor, saved: Tensor];
  };
  /**
   * The gradients, with those of the two losses, in which the shares of the experts count as constants. They are added to
   * the sums where those are given: a sum is consumed and may be changed in place.
   */
  MixtureOfExpertsGrad: {
    inputs: {
      x: Tensor;
      router: Tensor;
      input: Tensor;
      output: Tensor;
      choices: Tensor;
      logits: Tensor;
      saved: Tensor;
      dy: Tensor;
      sumRouter?: Tensor;
      sumInput?: Tensor;
      sumOutput?: Tensor;
    };
    attrs: MixtureAttributes;
    outputs: [dx: Tensor, dRouter: Tensor, dInput: Tensor, dOutput: Tensor];
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
  /** x [M,K]; y[j] = Σ x[l] over the tokens l of j's document up to j, or in `reverse` from j on. `cuSeqlens` [S+1] are the boundaries. */
  DocumentSums: { inputs: { x: Tensor }; attrs: { cuSeqlens: Int32Array; reverse: boolean }; outputs: [y: Tensor] };
  /** x, each number rounded to the nearest bfloat16: a backend may keep it in half the memory. */
  ToBfloat16: { inputs: { x: Tensor }; attrs: NoAttributes; outputs: [y: Tensor] };
  /** tokens int32 [N], weight [V,C]; rows [N,C]. */
  Embedding: { inputs: { tokens: Tensor; weight: Tensor }; attrs: ResidualAttributes; outputs: [rows: Tensor] };
  /** dWeight [V,C], and `sum` with it where that is given: it may change in place. */
  EmbeddingGrad: {
    inputs: { tokens: Tensor; dy: Tensor; sum?: Tensor };
    attrs: { vocabSize: number };
    outputs: [dWeight: Tensor];
  };
  /**
   * hidden [N,C], weight [V,C], targets int32 [N]; loss [N], logSumExp [N]. Where the gradient follows there may be `saved`,
   * whatever the backend keeps for it (any shape). With `likeliest`, which no gradient follows, the third is float32 [N]: 1
   * where no logit is above the target's, 0 elsewhere and in ignored rows.
   */
  LinearCrossEntropy: {
    inputs: { hidden: Tensor; weight: Tensor; targets: Tensor };
    attrs: CrossEntropyAttributes & { gradientFollows: boolean; likeliest?: boolean };
    outputs: [loss: Tensor, logSumExp: Tensor, savedOrLikeliest?: Tensor];
  };
  /** dWeight is added to `sum` [V,C] where that is given: it may change in place. */
  LinearCrossEntropyGrad: {
    inputs: {
      hidden: Tensor;
      weight: Tensor;
      targets: Tensor;
      logSumExp: Tensor;
      dLoss: Tensor;
      saved?: Tensor;
      sum?: Tensor;
    };
    attrs: CrossEntropyAttributes;
    outputs: [dHidden: Tensor, dWeight: Tensor];
  };
  /** x0, x1, …; the Euclidean norm of all of them together, a scalar. */
  GlobalNorm: { inputs: { [name: `x${number}`]: Tensor }; attrs: NoAttributes; outputs: [norm: Tensor] };
  /** param0, grad0, m0, v0, param1, …; no output: parameters and moments are changed in place. */
  AdamW: {
    /** `scale`: a scalar that gradients are multiplied by besides gradientScale; where it is not a number, nothing is updated. */
    inputs: { [name: `${'param' | 'grad' | 'm' | 'v'}${number}`]: Tensor; scale?: Tensor };
    attrs: AdamWAttributes;
    outputs: [];
  };
}

/** The name of a kernel of this package. */
export type KernelName = keyof Kernels;
/** The attributes of a kernel. */
export type KernelAttributes<Name extends KernelName> = Kernels[Name]['attrs'];

/** Inputs and outputs as a backend's kernel sees them: the same names and places, without the tensors' methods. */
type InfosOf<Tensors> = { [Key in keyof Tensors]: TensorInfo };
/** A kernel's inputs as a backend receives them. */
export type KernelInputs<Name extends KernelName> = InfosOf<Kernels[Name]['inputs']>;
/** A kernel's outputs as a backend returns them. */
export type KernelOutputs<Name extends KernelName> = InfosOf<Kernels[Name]['outputs']>;

/** A kernel of the reference: tensors in, tensors out, in the order stated in `Kernels`. */
export type ReferenceKernel<Name extends KernelName> = (
  inputs: Kernels[Name]['inputs'],
  attrs: Kernels[Name]['attrs'],
) => Kernels[Name]['outputs'];

/** A kernel of a backend. `Tools` is what the backend passes to all of its kernels. */
export type BackendKernel<Name extends KernelName, Tools> = (
  inputs: KernelInputs<Name>,
  attrs: KernelAttributes<Name>,
  tools: Tools,
) => KernelOutputs<Name>;

/** A backend's own kernels; for the rest, the reference runs. */
export type KernelTable<Tools> = { readonly [Name in KernelName]?: BackendKernel<Name, Tools> };
