/**
 * A LLaMA-style decoder over packed documents: embedding, then layers, then a norm and the output head. No biases.
 */
import { UserError } from '@stickbreaking/base';
import { embedding, type Ints, linear, linearCrossEntropy, rmsNorm, valueAndGradients } from '@stickbreaking/core';
import {
  mul,
  type Scalar,
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
import { KeyValueCache } from './cache.js';
import { loadCheckpoint, saveCheckpoint } from './checkpoint.js';
import { type LlamaConfig, type LlamaConfigInput, parseConfig } from './config.js';
import { type GenerateOptions, generate } from './generate.js';
import { type Recompute, runLayer, type Stream } from './layer.js';
import { type Parameter, parametersIn, type Weights, weightsOf } from './parameter.js';
import { initialValues, modelParameters } from './parameters.js';

/** Packed documents with the token that follows each one. */
export interface TokenBatch {
  /** [N] */
  tokens: Ints;
  /** [N] the next token, or −1 where none is scored. */
  targets: Ints;
  /** [S+1] document boundaries. */
  cuSeqlens: Ints;
}

/** What a forward pass takes beside the tokens. */
export interface ForwardOptions {
  /** [S+1] document boundaries; default: one document. */
  cuSeqlens?: Ints;
  /** Continue a document whose earlier tokens the cache holds. */
  cache?: KeyValueCache;
  /** Called with the attention of each layer, from the first to the last. */
  observe?: (attention: ObservedAttention) => void;
}

/**
 * A LLaMA-style decoder whose attention is part of its configuration. It owns its variables until `dispose`.
 *
 * Make one with `LlamaModel.create` or `LlamaModel.load`.
 */
export class LlamaModel {
  /** The same variables by their place in the model. */
  private readonly weights: Weights<ReturnType<typeof modelParameters>>;

  private constructor(
    readonly config: LlamaConfig,
    /** By Hugging Face's names. */
    readonly parameters: ReadonlyMap<string, Variable>,
  ) {
    this.weights = weightsOf(modelParameters(config), parameters);
  }

  /** A new model with seeded initial weights, the same for the same seed on every machine. */
  static create(config: LlamaConfigInput | LlamaConfig, { seed = 0 }: { seed?: number } = {}): LlamaModel {
    const parsed = parseConfig(config as LlamaConfigInput);
    return LlamaModel.make(parsed, (parameter) => initialValues(parameter, seed));
  }

  /**
   * Loads `config.json` and `model.safetensors` (or its shards) of a checkpoint directory, ours or Hugging Face's.
   *
   * @throws UserError if a file is missing or damaged, or the tensors do not match the configuration
   */
  static load(directory: string): LlamaModel {
    return loadCheckpoint(directory, (config, values) => LlamaModel.from(config, values));
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

  /** Writes `config.json` and `model.safetensors`, each replaced atomically. */
  save(directory: string): void {
    saveCheckpoint(directory, this.config, this.parameters);
  }

  /**
   * The logits of every token, [N, vocabSize]. For losses and for long inputs, `tokenLosses` needs less memory.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  forward(tokens: Ints, options: ForwardOptions = {}): Tensor2D {
    return tidy(() => this.logits(this.hiddenStates(tokens, options)));
  }

  /** The logits of the last token only, [vocabSize]. */
  lastLogits(tokens: Ints, options: ForwardOptions = {}): Tensor1D {
    return tidy(() => {
      const hidden = this.hiddenStates(tokens, options);
      return this.logits(hidden.slice([hidden.shape[0] - 1, 0], [1, hidden.shape[1]])).reshape([-1]) as Tensor1D;
    });
  }

  /** The loss of every token in nats, [N], 0 where the target is −1; never holds all [N, vocabSize] logits. */
  tokenLosses(batch: TokenBatch, options: { cache?: KeyValueCache; recompute?: Recompute } = {}): Tensor1D {
    return tidy(() => {
      this.checkTokens(batch.targets, -1);
      const hidden = this.hiddenStates(batch.tokens, { ...options, cuSeqlens: batch.cuSeqlens });
      const targets = tensor1d(Int32Array.from(batch.targets), 'int32');
      const logitScale = 1 / (this.config.mup?.logitsDivider ?? 1);
      return linearCrossEntropy(hidden, this.outputWeight(), targets, { logitScale });
    });
  }

  /** The mean loss of the scored tokens, in nats. */
  loss(batch: TokenBatch): Scalar {
    const scored = Array.from(batch.targets).filter((target) => target >= 0).length;
    return tidy(() => mul(sum(this.tokenLosses(batch)), 1 / Math.max(1, scored)) as Scalar);
  }

  /**
   * The summed loss of the batch times `scale`, and its gradient for every parameter; `recompute` saves memory. If
   * gradients of other batches are passed as `sums`, they are consumed, and the returned gradients include them.
   */
  gradients(
    batch: TokenBatch,
    {
      scale = 1,
      recompute = 'none',
      sums,
    }: { scale?: number; recompute?: Recompute; sums?: ReadonlyMap<string, Tensor> | undefined } = {},
  ): { loss: Scalar; gradients: Map<string, Tensor> } {
    const parameters = [...this.parameters];
    const { value, gradients: all } = valueAndGradients(
      () => mul(sum(this.tokenLosses(batch, { recompute })), scale) as Scalar,
      parameters.map(([, one]) => one),
      parameters.map(([name]) => sums?.get(name)),
    );
    const gradients = new Map(parameters.map(([name, one], i) => [name, all[i] ?? zerosLike(one)]));
    return { loss: value, gradients };
  }

  /** An empty cache for one document, for `forward` and `lastLogits`; the caller disposes of it. */
  createCache(): KeyValueCache {
    return new KeyValueCache();
  }

  /** Continues a prompt, one token at a time, until a stop token or `maxNewTokens`. */
  generate(prompt: Ints, options: GenerateOptions = {}): AsyncGenerator<number> {
    return generate(this, prompt, options);
  }

  /** Frees the model's variables. */
  dispose(): void {
    for (const parameter of this.parameters.values()) parameter.dispose();
  }

  /** The normalised output of the last layer, [N, hiddenSize]. */
  private hiddenStates(
    tokens: Ints,
    { cuSeqlens, cache, observe, recompute = 'none' }: ForwardOptions & { recompute?: Recompute },
  ): Tensor2D {
    this.checkTokens(tokens, 0);
    if (cache && cuSeqlens && cuSeqlens.length !== 2) {
      throw new UserError('A cache continues one document, but cuSeqlens names several.');
    }
    const boundaries = Int32Array.from(cuSeqlens ?? [0, tokens.length]);
    const { normEpsilon, mup } = this.config;
    const { layers, norm } = this.weights;
    const ids = tensor1d(Int32Array.from(tokens), 'int32');
    const embedded = embedding(ids, this.weights.embedding);
    let stream: Stream = { x: mup ? (mul(embedded, mup.embeddingMultiplier) as Tensor2D) : embedded };
    for (const [layer, weights] of layers.entries()) {
      const before = stream;
      const nextNorm = layers[layer + 1]?.inputNorm ?? norm;
      const context = { layer, nextNorm, recompute, cuSeqlens: boundaries, cache, observe };
      stream = tidy(() => runLayer(before, weights, this.config, context));
      before.x.dispose();
      before.normalised?.dispose();
    }
    return stream.normalised ?? rmsNorm(stream.x, norm, normEpsilon);
  }

  private logits(hidden: Tensor2D): Tensor2D {
    const logits = linear(hidden, this.outputWeight());
    const divider = this.config.mup?.logitsDivider ?? 1;
    return divider === 1 ? logits : (mul(logits, 1 / divider) as Tensor2D);
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
