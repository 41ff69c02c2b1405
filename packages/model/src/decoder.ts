/**
 * The forward pass of a LLaMA-style decoder over packed documents: embedding, then layers, then a norm and the output head.
 */
import { UserError } from '@stickbreaking/base';
import {
  decodeStep,
  embedding,
  type Ints,
  linear,
  type MatmulPrecision,
  type ResidualType,
  rmsNorm,
} from '@stickbreaking/core';
import {
  concat,
  keep,
  mul,
  type Scalar,
  scalar,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tidy,
} from '@tensorflow/tfjs-core';
import type { ObservedAttention } from './attention/attend.js';
import { isDecoded } from './attention/index.js';
import type { SequenceGroup } from './attention/shared_sequence.js';
import { KeyValueCache } from './cache.js';
import { type CachePlan, planCaches } from './cache_plan.js';
import type { LlamaConfig } from './config.js';
import { type Recompute, runLayer, type Stream } from './layer.js';
import type { Weights } from './parameter.js';
import type { modelParameters } from './parameters.js';

/** What a forward pass takes beside the tokens. */
export interface ForwardOptions {
  /** [S+1] document boundaries; default: one document. */
  cuSeqlens?: Ints;
  /** Continue a document whose earlier tokens the cache holds, or each document with a cache of its own. */
  cache?: KeyValueCache | readonly KeyValueCache[] | undefined;
  /** Called with the attention of each layer, from the first to the last. */
  observe?: (attention: ObservedAttention) => void;
  /**
   * Called by each layer, from the first to the last, where each document has one new token and a cache: how many keys each
   * key-value head has read, int32 [N, numKvHeads], valid during the call. Not with every attention kind.
   */
  onKeysRead?: (keysRead: Tensor2D) => void;
}

/** How a training step is computed. */
export interface ComputeOptions {
  /** What the backward computes again instead of keeping it; default: nothing. */
  recompute?: Recompute | undefined;
  /** Of the layers' matmuls; the output head's and the gradients of weights are made as ever. */
  precision?: MatmulPrecision | undefined;
  /** Of the residual stream and its gradient, where the backend holds activations in bfloat16. */
  residualType?: ResidualType | undefined;
  /**
   * Processes that share the batch's sequence: tokens and targets are this one's (`ownTokens`), `cuSeqlens` is of all, and losses
   * and gradients are those of its tokens.
   */
  sequence?: SequenceGroup | undefined;
  /**
   * How often each expert of each layer was chosen in the step before, for a mixture that is balanced over steps. Default: the
   * batch's own.
   */
  countsBefore?: readonly (readonly number[])[] | undefined;
}

/** What a training step wants of the layers beside the loss: see `FeedForwardContext`. */
export interface Routed {
  lossWeight?: number;
  onRouting?: (routing: Tensor1D) => void;
}

/** One forward pass: its tokens, where documents begin, and where they go in the caches. */
interface ModelInput {
  tokens: Ints;
  /** The tokens as a tensor, where there is one. */
  ids?: Tensor1D;
  boundaries: Int32Array;
  plan: CachePlan | undefined;
  observe: ForwardOptions['observe'];
  onKeysRead: ForwardOptions['onKeysRead'];
}

export class Decoder {
  private readonly factors = new Map<number, Scalar>();

  constructor(
    readonly config: LlamaConfig,
    /** Variables of the model, by their place in it. */
    private readonly weights: Weights<ReturnType<typeof modelParameters>>,
  ) {}

  /** [vocabSize, hiddenSize] */
  get outputWeight(): Tensor2D {
    return this.weights.head ?? this.weights.embedding;
  }

  /** What logits are multiplied by. */
  get logitScale(): number {
    return 1 / (this.config.mup?.logitsDivider ?? 1);
  }

  /** [N, vocabSize], of normalised hidden states [N, hiddenSize]. */
  logits(hidden: Tensor2D): Tensor2D {
    return this.times(linear(hidden, this.outputWeight), this.logitScale);
  }

  /** Of each document the logits of its last token, [S, vocabSize]. */
  nextLogits(tokens: Ints, options: ForwardOptions): Tensor2D {
    const bounds = options.cuSeqlens ?? [0, tokens.length];
    return tidy(() => {
      const input = this.inputOf(tokens, options);
      const { plan } = input;
      if (plan?.single && !options.onKeysRead && isDecoded(this.config)) {
        const step = { owner: this, tokens: Int32Array.from(tokens), lengths: plan.lengths, table: plan.table };
        return decodeStep(step, (ids, { lengths, table }) =>
          tidy(() => this.logits(this.run({ ...input, ids, plan: { ...plan, lengths, table } }))),
        );
      }
      const hidden = this.run(input);
      const lasts = Array.from({ length: bounds.length - 1 }, (_, s) => {
        if (bounds[s] === bounds[s + 1]) throw new UserError(`Document ${s} has no token, so nothing follows it.`);
        return bounds[s + 1]! - 1;
      });
      if (lasts.length === hidden.shape[0]) return this.logits(hidden);
      const rows = lasts.map((row) => hidden.slice([row, 0], [1, hidden.shape[1]]));
      return this.logits(rows.length === 1 ? rows[0]! : concat(rows));
    });
  }

  /** The normalised output of the last layer, [N, hiddenSize]. */
  hiddenStates(tokens: Ints, options: ForwardOptions, compute: ComputeOptions & Routed = {}): Tensor2D {
    return this.run(this.inputOf(tokens, options), compute);
  }

  /** @throws UserError where a token is neither in the vocabulary nor from `lowest` on */
  checkTokens(tokens: Ints, lowest: number): void {
    const { vocabSize } = this.config;
    for (const token of tokens) {
      if (token < lowest || token >= vocabSize) {
        throw new UserError(`Token ${token} is not in the model's vocabulary of ${vocabSize}.`);
      }
    }
  }

  dispose(): void {
    for (const factor of this.factors.values()) factor.dispose();
    this.factors.clear();
  }

  /** Everything checked, and the new tokens' places in the caches. */
  private inputOf(tokens: Ints, { cuSeqlens, cache, observe, onKeysRead }: ForwardOptions): ModelInput {
    this.checkTokens(tokens, 0);
    if (cache && observe) throw new UserError('Attention is observed without a cache: run the whole document.');
    const boundaries = Int32Array.from(cuSeqlens ?? [0, tokens.length]);
    const caches = cache instanceof KeyValueCache ? [cache] : cache;
    return { tokens, boundaries, plan: caches && planCaches(caches, boundaries), observe, onKeysRead };
  }

  private run(
    { tokens, ids = tensor1d(Int32Array.from(tokens), 'int32'), boundaries, plan, observe, onKeysRead }: ModelInput,
    {
      recompute = 'none',
      precision = 'default',
      residualType = 'bfloat16',
      sequence,
      countsBefore,
      lossWeight = 0,
      onRouting,
    }: ComputeOptions & Routed = {},
  ): Tensor2D {
    const { normEpsilon, mup } = this.config;
    const { layers, norm } = this.weights;
    const embedded = embedding(ids, this.weights.embedding, { residualType });
    let stream: Stream = { x: mup ? this.times(embedded, mup.embeddingMultiplier) : embedded };
    for (const [layer, weights] of layers.entries()) {
      const before = stream;
      const nextNorm = layers[layer + 1]?.inputNorm ?? norm;
      const context = {
        layer,
        nextNorm,
        recompute,
        precision,
        residualType,
        sequence,
        lossWeight,
        onRouting,
        countsBefore: countsBefore?.[layer],
        cuSeqlens: boundaries,
        cache: plan,
        observe,
        onKeysRead,
      };
      stream = tidy(() => runLayer(before, weights, this.config, context));
      before.x.dispose();
      before.normalised?.dispose();
    }
    return stream.normalised ?? rmsNorm(stream.x, norm, normEpsilon, { residualType });
  }

  /** By a number that stays with the model as a tensor, which a recorded step of generation reads. */
  private times(x: Tensor2D, factor: number): Tensor2D {
    if (factor === 1) return x;
    let kept = this.factors.get(factor);
    if (!kept || kept.isDisposed) {
      kept = keep(scalar(factor));
      this.factors.set(factor, kept);
    }
    return mul(x, kept) as Tensor2D;
  }
}
