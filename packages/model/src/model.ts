/**
 * A LLaMA-style decoder over packed documents: embedding, then layers, then a norm and the output head. No biases.
 */
import { UserError } from '@stickbreaking/base';
import {
  decodeStep,
  embedding,
  type Ints,
  linear,
  linearCrossEntropy,
  linearTargetScores,
  type MatmulPrecision,
  type ResidualType,
  rmsNorm,
  type TargetScores,
  valueAndGradients,
} from '@stickbreaking/core';
import {
  concat,
  dispose,
  keep,
  mul,
  type Scalar,
  scalar,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor,
  tensor1d,
  tidy,
  type Variable,
  variable,
  zerosLike,
} from '@tensorflow/tfjs-core';
import type { ObservedAttention } from './attention/attend.js';
import { attentionKind, isDecoded } from './attention/index.js';
import type { SequenceGroup } from './attention/shared_sequence.js';
import { CachePages, KeyValueCache, pagesOf } from './cache.js';
import { type CachePlan, planCaches } from './cache_plan.js';
import type { FileChecksum } from './checksums.js';
import { type LlamaConfig, type LlamaConfigInput, parseConfig } from './config.js';
import { type ContinuationScore, type ScoreOptions, scoreContinuations } from './continuations.js';
import { type BatchedToken, type BatchOptions, generate, generateBatch } from './generation/generate.js';
import type { GenerateOptions, GenerationRequest } from './generation/options.js';
import { host, type SaveAsyncOptions, type SaveOptions } from './host.js';
import { type Recompute, runLayer, type Stream } from './layer.js';
import { type Parameter, parametersIn, type Weights, weightsOf } from './parameter.js';
import { initialValues, modelParameters, sizeOf } from './parameters.js';

/** Packed documents with the token that follows each one. */
export interface TokenBatch {
  /** [N] */
  tokens: Ints;
  /** [N] the next token, or −1 where none is scored. */
  targets: Ints;
  /** [S+1] document boundaries. */
  cuSeqlens: Ints;
}

/** Packed documents with targets at some of their rows. */
export interface TargetBatch {
  /** [N] */
  tokens: Ints;
  /** [S+1] document boundaries. */
  cuSeqlens: Ints;
  /** [R] the row after which each target stands; a row may be named more than once. */
  rows: Ints;
  /** [R] tokens, or −1 where none is scored. */
  targets: Ints;
}

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
interface Routed {
  lossWeight?: number;
  onRouting?: (routing: Tensor1D) => void;
}

/** The gradients of a batch. */
export interface LossAndGradients {
  /** Of the tokens, times the scale; a layer's own losses are in the gradients alone. */
  loss: Scalar;
  /** For every parameter. */
  gradients: Map<string, Tensor>;
  /**
   * Of a mixture of experts, [numLayers, 2 + experts]: each layer's balance loss (1 where all experts have as many tokens),
   * its z loss, and how often each expert was chosen.
   */
  routing?: Tensor2D;
}

/**
 * A LLaMA-style decoder whose attention is part of its configuration. It owns its variables until `dispose`.
 *
 * Make one with `LlamaModel.create` or `LlamaModel.load`.
 */
export class LlamaModel {
  private readonly pages: CachePages;
  private readonly factors = new Map<number, Scalar>();
  /** The same variables by their place in the model. */
  private readonly weights: Weights<ReturnType<typeof modelParameters>>;

  private constructor(
    readonly config: LlamaConfig,
    /** By Hugging Face's names. */
    readonly parameters: ReadonlyMap<string, Variable>,
  ) {
    this.weights = weightsOf(modelParameters(config), parameters);
    this.pages = new CachePages(config, attentionKind(config.attention).hasGates?.(config.attention));
  }

  /**
   * A new model with seeded initial weights, the same for the same seed on every machine.
   *
   * @param share draw every `size`-th parameter alone, and leave the others zero: several processes' models sum to the whole
   */
  static create(
    config: LlamaConfigInput | LlamaConfig,
    { seed = 0, share }: { seed?: number; share?: { rank: number; size: number } } = {},
  ): LlamaModel {
    const parsed = parseConfig(config as LlamaConfigInput);
    let next = 0;
    const isOwn = () => !share || next++ % share.size === share.rank;
    return LlamaModel.make(parsed, (parameter) =>
      isOwn() ? initialValues(parameter, seed) : new Float32Array(sizeOf(parameter)),
    );
  }

  /**
   * Loads `config.json` and `model.safetensors` (or its shards) of a checkpoint directory, ours or Hugging Face's.
   *
   * @throws UserError if a file is missing or damaged, or the tensors do not match the configuration
   */
  static load(directory: string): LlamaModel {
    return host().load(directory, (config, values) => LlamaModel.from(config, values));
  }

  /** A model whose initial values are supplied one parameter at a time. */
  static from(config: LlamaConfig, values: (name: string, shape: readonly number[]) => Float32Array): LlamaModel {
    return LlamaModel.make(config, ({ name, shape }) => values(name, shape));
  }

  private static make(config: LlamaConfig, values: (parameter: Parameter) => Float32Array): LlamaModel {
    const parameters = new Map<string, Variable>();
    for (const parameter of parametersIn(modelParameters(config))) {
      const initial = tensor(values(parameter), [...parameter.shape]);
      parameters.set(parameter.name, variable(initial));
      initial.dispose();
    }
    return new LlamaModel(config, parameters);
  }

  /**
   * Writes `config.json`, `model.safetensors` and, where no class of `transformers` opens them, the code that does, each
   * replaced atomically.
   */
  save(directory: string, options: SaveOptions = {}): void {
    host().save(directory, this.config, this.parameters, options);
  }

  /**
   * The same, while other work goes on, which must not change the weights until it ends.
   *
   * @returns the checksum of the weights' file, if it was asked for
   */
  async saveAsync(directory: string, options: SaveAsyncOptions = {}): Promise<FileChecksum | undefined> {
    return await host().saveAsync(directory, this.config, this.parameters, options);
  }

  /**
   * The logits of every token, [N, vocabSize]. For losses and for long inputs, `tokenLosses` needs less memory.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  forward(tokens: Ints, options: ForwardOptions = {}): Tensor2D {
    return tidy(() => this.logits(this.hiddenStates(this.inputOf(tokens, options))));
  }

  /** The logits of the last token only, [vocabSize]. */
  lastLogits(tokens: Ints, options: ForwardOptions = {}): Tensor1D {
    return tidy(() => {
      const hidden = this.hiddenStates(this.inputOf(tokens, options));
      return this.logits(hidden.slice([hidden.shape[0] - 1, 0], [1, hidden.shape[1]])).reshape([-1]) as Tensor1D;
    });
  }

  /**
   * The logits of the last token of each document, [S, vocabSize].
   *
   * @throws UserError where a token is not in the vocabulary, or a document has no token
   */
  nextLogits(tokens: Ints, options: ForwardOptions = {}): Tensor2D {
    const bounds = options.cuSeqlens ?? [0, tokens.length];
    return tidy(() => {
      const input = this.inputOf(tokens, options);
      const { plan } = input;
      if (plan?.single && !options.onKeysRead && isDecoded(this.config)) {
        const step = { owner: this, tokens: Int32Array.from(tokens), lengths: plan.lengths, table: plan.table };
        return decodeStep(step, (ids, { lengths, table }) =>
          tidy(() => this.logits(this.hiddenStates({ ...input, ids, plan: { ...plan, lengths, table } }))),
        );
      }
      const hidden = this.hiddenStates(input);
      const lasts = Array.from({ length: bounds.length - 1 }, (_, s) => {
        if (bounds[s] === bounds[s + 1]) throw new UserError(`Document ${s} has no token, so nothing follows it.`);
        return bounds[s + 1]! - 1;
      });
      if (lasts.length === hidden.shape[0]) return this.logits(hidden);
      const rows = lasts.map((row) => hidden.slice([row, 0], [1, hidden.shape[1]]));
      return this.logits(rows.length === 1 ? rows[0]! : concat(rows));
    });
  }

  /** The loss of every token in nats, [N], 0 where the target is −1; never holds all [N, vocabSize] logits. */
  tokenLosses(batch: TokenBatch, options: Pick<ForwardOptions, 'cache'> & ComputeOptions = {}): Tensor1D {
    return this.lossesOf(batch, options);
  }

  private lossesOf(batch: TokenBatch, options: Pick<ForwardOptions, 'cache'> & ComputeOptions & Routed): Tensor1D {
    return tidy(() => {
      this.checkTokens(batch.targets, -1);
      const { cache, ...compute } = options;
      const input = this.inputOf(batch.tokens, { cache, cuSeqlens: batch.cuSeqlens });
      const hidden = this.hiddenStates(input, compute);
      const targets = tensor1d(Int32Array.from(batch.targets), 'int32');
      const logitScale = 1 / (this.config.mup?.logitsDivider ?? 1);
      return linearCrossEntropy(hidden, this.outputWeight(), targets, { logitScale });
    });
  }

  /**
   * The loss of chosen targets in nats, and whether each is the likeliest token at its place. The output head runs over their
   * rows alone.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  targetScores(
    { tokens, cuSeqlens, rows, targets }: TargetBatch,
    { cache }: Pick<ForwardOptions, 'cache'> = {},
  ): TargetScores {
    return tidy(() => {
      this.checkTokens(targets, -1);
      const hidden = this.hiddenStates(this.inputOf(tokens, { cache, cuSeqlens }));
      const chosen = embedding(tensor1d(Int32Array.from(rows), 'int32'), hidden);
      const ids = tensor1d(Int32Array.from(targets), 'int32');
      const logitScale = 1 / (this.config.mup?.logitsDivider ?? 1);
      return { ...linearTargetScores(chosen, this.outputWeight(), ids, { logitScale }) };
    });
  }

  /**
   * Puts tokens into the caches without asking what follows them.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  extendCache(tokens: Ints, { cuSeqlens, cache }: Pick<ForwardOptions, 'cuSeqlens' | 'cache'>): void {
    tidy(() => {
      this.hiddenStates(this.inputOf(tokens, { cuSeqlens: cuSeqlens ?? [0, tokens.length], cache }));
    });
  }

  /** The mean loss of the scored tokens, in nats. */
  loss(batch: TokenBatch): Scalar {
    return tidy(() => mul(sum(this.tokenLosses(batch)), 1 / Math.max(1, scoredTokens(batch))) as Scalar);
  }

  /**
   * The summed loss of the batch times `scale`, and its gradient for every parameter. If gradients of other batches are
   * passed as `sums`, they are consumed, and the returned gradients include them. `onReady` is told of each gradient as
   * soon as it is complete, and may give another tensor in its place. Losses that layers have of their own, such as a
   * mixture's balance loss, are means over the batch's tokens: they count as much as its scored tokens, times `scale`.
   */
  gradients(
    batch: TokenBatch,
    {
      scale = 1,
      sums,
      onReady,
      ...compute
    }: ComputeOptions & {
      scale?: number;
      sums?: ReadonlyMap<string, Tensor> | undefined;
      onReady?: (name: string, gradient: Tensor) => Tensor;
    } = {},
  ): LossAndGradients {
    const parameters = [...this.parameters];
    const routings: Tensor1D[] = [];
    const routed = {
      lossWeight: scale * scoredTokens(batch),
      onRouting: (routing: Tensor1D) => void routings.push(keep(routing)),
    };
    const { value, gradients: all } = valueAndGradients(
      () => mul(sum(this.lossesOf(batch, { ...compute, ...routed })), scale) as Scalar,
      parameters.map(([, one]) => one),
      parameters.map(([name]) => sums?.get(name)),
      onReady && ((i, gradient) => onReady(parameters[i]![0], gradient)),
    );
    const gradients = new Map(parameters.map(([name, one], i) => [name, all[i] ?? zerosLike(one)]));
    if (routings.length === 0) return { loss: value, gradients };
    const routing = tidy(() => concat(routings).reshape([routings.length, -1]) as Tensor2D);
    dispose(routings);
    return { loss: value, gradients, routing };
  }

  /**
   * An empty cache for one document, for `forward`, `nextLogits` and `tokenLosses`; the caller disposes of it. Its `fork` holds
   * the same tokens without a copy of them, for several documents that begin alike.
   */
  createCache(): KeyValueCache {
    return new KeyValueCache(this.pages);
  }

  /**
   * Makes room for the keys and values of documents of these lengths at once: memory that grows document by document is
   * copied each time.
   *
   * @param lengths tokens that each document is going to have more
   * @throws UserError if there is not so much memory
   */
  reserveCache(lengths: readonly number[]): void {
    this.pages.reserve(lengths.reduce((sum, tokens) => sum + pagesOf(tokens), 0));
  }

  /** Continues a prompt, one token at a time, until a stop token or `maxNewTokens`. */
  generate(prompt: Ints, options: GenerateOptions = {}): AsyncGenerator<number> {
    return generate(this, prompt, options);
  }

  /**
   * Continues many prompts at once, `batchSize` at a time: a finished one makes room for the next. Tokens come as they are
   * made, each with the index of its prompt. A prompt's tokens do not depend on the others (see `BatchGenerator`).
   */
  generateBatch(
    requests: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
    options: BatchOptions = {},
  ): AsyncGenerator<BatchedToken> {
    return generateBatch(this, requests, options);
  }

  /**
   * The log-probability of each continuation of one context. The context runs through the model once, and its cache is shared.
   *
   * @param context at least one token
   * @param continuations each at least one token
   * @throws UserError if either is empty, a token is not in the vocabulary, or a loss is not finite
   */
  scoreContinuations(
    context: Ints,
    continuations: readonly Ints[],
    options: ScoreOptions = {},
  ): Promise<ContinuationScore[]> {
    return scoreContinuations(this, context, continuations, options);
  }

  /** Frees the model's variables. */
  dispose(): void {
    for (const parameter of this.parameters.values()) parameter.dispose();
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

  /** The normalised output of the last layer, [N, hiddenSize]. */
  private hiddenStates(
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

  private logits(hidden: Tensor2D): Tensor2D {
    const logits = linear(hidden, this.outputWeight());
    return this.times(logits, 1 / (this.config.mup?.logitsDivider ?? 1));
  }

  private outputWeight(): Tensor2D {
    return this.weights.head ?? this.weights.embedding;
  }

  private checkTokens(tokens: Ints, lowest: number): void {
    const { vocabSize } = this.config;
    for (const token of tokens) {
      if (token < lowest || token >= vocabSize) {
        throw new UserError(`Token ${token} is not in the model's vocabulary of ${vocabSize}.`);
      }
    }
  }
}

/** A batch as a process of several that share its sequence has it; its length is a multiple of their number. */
export function ownTokens({ tokens, targets, cuSeqlens }: TokenBatch, { rank, size }: SequenceGroup): TokenBatch {
  const [from, to] = [rank, rank + 1].map((one) => (tokens.length / size) * one);
  return { tokens: tokens.slice(from, to), targets: targets.slice(from, to), cuSeqlens };
}

/** How many tokens of a batch have a target. */
export function scoredTokens({ targets }: Pick<TokenBatch, 'targets'>): number {
  let scored = 0;
  for (const target of targets) if (target >= 0) scored++;
  return scored;
}
