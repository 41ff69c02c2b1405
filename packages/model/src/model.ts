/**
 * A LLaMA-style decoder over packed documents: embedding, then layers of RMSNorm, attention, RMSNorm and SwiGLU with
 * residual connections, then a norm and the output head. No biases.
 */
import { UserError } from '@stickbreaking/base';
import {
  embedding,
  type Ints,
  linear,
  linearCrossEntropy,
  linears,
  recomputed,
  residual,
  residualRmsNorm,
  rmsNorm,
  swiGlu,
  valueAndGradients,
} from '@stickbreaking/core';
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
import { type AttentionContext, attend, type LayerParameters, type ObservedAttention } from './attention.js';
import { KeyValueCache } from './cache.js';
import { loadCheckpoint, saveCheckpoint } from './checkpoint.js';
import { type LlamaConfig, type LlamaConfigInput, parseConfig } from './config.js';
import { type GenerateOptions, generate } from './generate.js';
import { initialValues, parameterShapes } from './parameters.js';

/** Packed documents with the token that follows each one. */
export interface TokenBatch {
  /** [N] */
  tokens: Ints;
  /** [N] the next token, −1 where nothing is scored. */
  targets: Ints;
  /** [S+1] document boundaries. */
  cuSeqlens: Ints;
}

/** What a training step computes again in its backward instead of keeping it: nothing, each attention, each layer. */
export type Recompute = 'none' | 'attention' | 'block';

export interface ForwardOptions {
  /** [S+1] document boundaries; default: one document. */
  cuSeqlens?: Ints;
  /** Continue a document whose earlier tokens the cache holds. */
  cache?: KeyValueCache;
  /** Called with each layer's attention, first to last. */
  observe?: (attention: ObservedAttention) => void;
}

/** What passes from layer to layer: the residual stream and, where it is already made, what the next norm makes of it. */
type Stream = {
  /** [N, hiddenSize] */
  x: Tensor2D;
  /** [N, hiddenSize] */
  normalised?: Tensor2D;
};

export class LlamaModel {
  private constructor(
    readonly config: LlamaConfig,
    /** By Hugging Face's names. */
    readonly parameters: ReadonlyMap<string, Variable>,
  ) {}

  /** A new model with seeded initial weights, the same for the same seed on every machine. */
  static create(config: LlamaConfigInput | LlamaConfig, { seed = 0 }: { seed?: number } = {}): LlamaModel {
    const parsed = parseConfig(config as LlamaConfigInput);
    return LlamaModel.from(parsed, (name, shape) => initialValues(name, shape, parsed, seed));
  }

  /**
   * Loads `config.json` and `model.safetensors` (or its shards) of a checkpoint directory, ours or Hugging Face's.
   *
   * @throws UserError where a file is missing or broken, or the tensors are not the configuration's
   */
  static load(directory: string): LlamaModel {
    return loadCheckpoint(directory, (config, values) => LlamaModel.from(config, values));
  }

  /** A model whose values come one parameter at a time. */
  static from(config: LlamaConfig, values: (name: string, shape: readonly number[]) => Float32Array): LlamaModel {
    const parameters = new Map<string, Variable>();
    for (const [name, shape] of parameterShapes(config)) {
      const initial = tensor(values(name, shape), shape);
      parameters.set(name, variable(initial));
      initial.dispose();
    }
    return new LlamaModel(config, parameters);
  }

  /** Writes `config.json` and `model.safetensors`, each replaced at once. */
  save(directory: string): void {
    saveCheckpoint(directory, this.config, this.parameters);
  }

  /**
   * Logits of every token, [N, vocabSize]; for losses and for long inputs see `tokenLosses`.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  forward(tokens: Ints, options: ForwardOptions = {}): Tensor2D {
    return tidy(() => this.logits(this.hiddenStates(tokens, options)));
  }

  /** Logits of the last token alone, [vocabSize]. */
  lastLogits(tokens: Ints, options: ForwardOptions = {}): Tensor1D {
    return tidy(() => {
      const hidden = this.hiddenStates(tokens, options);
      return this.logits(hidden.slice([hidden.shape[0] - 1, 0], [1, hidden.shape[1]])).reshape([-1]) as Tensor1D;
    });
  }

  /** The loss of every token in nats, [N], 0 where the target is −1; the [N, vocabSize] logits are never whole. */
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
   * The summed loss of the batch times `scale`, and its gradient for every parameter; `recompute` saves memory. Gradients of
   * other batches are given up where they are named as `sums`, and what is returned is added to them.
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

  createCache(): KeyValueCache {
    return new KeyValueCache();
  }

  /** Continues a prompt, one token at a time, until a stop token or `maxNewTokens`. */
  generate(prompt: Ints, options: GenerateOptions = {}): AsyncGenerator<number> {
    return generate(this, prompt, options);
  }

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
    const ids = tensor1d(Int32Array.from(tokens), 'int32');
    const embedded = embedding(ids, this.parameter('model.embed_tokens.weight') as Tensor2D);
    let stream: Stream = { x: mup ? (mul(embedded, mup.embeddingMultiplier) as Tensor2D) : embedded };
    const context = { cuSeqlens: boundaries, ...(cache ? { cache } : {}), ...(observe ? { observe } : {}) };
    for (let layer = 0; layer < this.config.numLayers; layer++) {
      const before = stream;
      stream = tidy(() => this.layer(before, layer, context, recompute));
      before.x.dispose();
      before.normalised?.dispose();
    }
    return stream.normalised ?? rmsNorm(stream.x, this.inputNorm(this.config.numLayers), normEpsilon);
  }

  /**
   * Where nothing is computed again, each residual connection is one with the norm that reads it, the next layer's first
   * norm included. A part that is computed again starts at its norm and ends with its residual connection, so that x alone
   * is kept for it.
   */
  private layer(
    { x, normalised }: Stream,
    layer: number,
    context: Omit<AttentionContext, 'layer'>,
    recompute: Recompute,
  ): Stream {
    const prefix = `model.layers.${layer}.`;
    const parameter: LayerParameters = (name) => this.parameter(`${prefix}${name}`);
    const epsilon = this.config.normEpsilon;
    const multiplier = this.config.mup?.residualMultiplier ?? 1;
    const attention = (input: Tensor2D, known?: Tensor2D) =>
      attend(known ?? rmsNorm(input, this.inputNorm(layer), epsilon), parameter, this.config, { ...context, layer });
    const join = (input: Tensor2D, branch: Tensor2D, weight: Tensor1D) =>
      residualRmsNorm(input, branch, weight, { epsilon, multiplier });
    const feedForward = (input: Tensor2D) => {
      const [gateWeight, upWeight] = ['gate', 'up'].map((name) => parameter(`mlp.${name}_proj.weight`) as Tensor2D);
      const [gate, up] = linears(input, [gateWeight!, upWeight!]);
      return linear(swiGlu(gate, up), parameter('mlp.down_proj.weight') as Tensor2D);
    };
    const afterAttention = (input: Tensor2D, branch: Tensor2D) =>
      join(input, branch, parameter('post_attention_layernorm.weight') as Tensor1D);
    const whole = (input: Tensor2D, branch: Tensor2D) => {
      const middle = afterAttention(input, branch);
      return residual(middle.sum, feedForward(middle.normalised), multiplier);
    };
    const named = (start: RegExp) =>
      [...this.parameters].filter(([name]) => name.startsWith(prefix) && start.test(name)).map(([, one]) => one);
    switch (recompute) {
      case 'block':
        return { x: recomputed((input) => whole(input, attention(input)), x, named(/./)) };
      case 'attention':
        return { x: whole(x, recomputed(attention, x, named(/\.(input_layernorm|self_attn)\./))) };
      case 'none': {
        const middle = afterAttention(x, attention(x, normalised));
        const end = join(middle.sum, feedForward(middle.normalised), this.inputNorm(layer + 1));
        return { x: end.sum, normalised: end.normalised };
      }
    }
  }

  /** The weight of the norm that a layer begins with; past the last one, of the norm before the output head. */
  private inputNorm(layer: number): Tensor1D {
    const last = layer === this.config.numLayers;
    return this.parameter(last ? 'model.norm.weight' : `model.layers.${layer}.input_layernorm.weight`) as Tensor1D;
  }

  private logits(hidden: Tensor2D): Tensor2D {
    const logits = linear(hidden, this.outputWeight());
    const divider = this.config.mup?.logitsDivider ?? 1;
    return divider === 1 ? logits : (mul(logits, 1 / divider) as Tensor2D);
  }

  private outputWeight(): Tensor2D {
    return this.parameter(this.config.tieEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight') as Tensor2D;
  }

  private parameter(name: string): Tensor {
    return this.parameters.get(name)!;
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
