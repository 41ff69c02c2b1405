/** The model as its users have it: made, loaded and saved, asked for logits, losses, gradients and continuations. */
import { UserError } from '@stickbreaking/base';
import type { Ints, TargetScores } from '@stickbreaking/core';
import {
  mul,
  type Scalar,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor,
  tidy,
  type Variable,
  variable,
} from '@tensorflow/tfjs-core';
import { attentionKind } from './attention/index.js';
import { scoredTokens, type TargetBatch, type TokenBatch } from './batch.js';
import { CachePages, KeyValueCache, pagesOf } from './cache.js';
import type { FileChecksum } from './checksums.js';
import { type LlamaConfig, type LlamaConfigInput, parseConfig } from './config.js';
import { type ContinuationScore, type ScoreOptions, scoreContinuations } from './continuations.js';
import { type ComputeOptions, Decoder, type ForwardOptions } from './decoder.js';
import { type BatchedToken, type BatchOptions, generate, generateBatch } from './generation/generate.js';
import type { GenerateOptions, GenerationRequest } from './generation/options.js';
import { host, type LoadAsyncOptions, type SaveAsyncOptions, type SaveOptions } from './host.js';
import { type LossAndGradients, lossAndGradients, targetScores, tokenLosses } from './loss.js';
import { type Parameter, parametersIn, weightsOf } from './parameter.js';
import { initialValues, modelParameters, sizeOf } from './parameters.js';

/**
 * A LLaMA-style decoder whose attention is part of its configuration. It owns its variables until `dispose`.
 *
 * Make one with `LlamaModel.create` or `LlamaModel.load`.
 */
export class LlamaModel {
  private readonly pages: CachePages;
  private readonly decoder: Decoder;

  private constructor(
    readonly config: LlamaConfig,
    /** By Hugging Face's names. */
    readonly parameters: ReadonlyMap<string, Variable>,
  ) {
    this.decoder = new Decoder(config, weightsOf(modelParameters(config), parameters));
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

  /**
   * The same, while the system's threads read, which takes less time where cores are free.
   *
   * @param options `as`: a configuration of the same parameters, which the model has in place of the directory's
   * @throws UserError as `load`, and where the parameters are not those of `as`
   */
  static async loadAsync(
    directory: string,
    { as, ...options }: LoadAsyncOptions & { as?: LlamaConfig | undefined } = {},
  ): Promise<LlamaModel> {
    const loaded = new Map<string, Variable>();
    try {
      const own = await host().loadAsync(
        directory,
        (name, values, shape) => void loaded.set(name, variableOf(values, shape)),
        options,
      );
      const config = as ?? own;
      const parameters = parametersIn(modelParameters(config)).map(({ name, shape }) => {
        const parameter = loaded.get(name);
        if (parameter?.shape.join() === shape.join()) return [name, parameter] as const;
        throw new UserError(`${directory} has no parameter '${name}' of shape [${shape.join(', ')}].`);
      });
      return new LlamaModel(config, new Map(parameters));
    } catch (error) {
      for (const parameter of loaded.values()) parameter.dispose();
      throw error;
    }
  }

  /** A model whose initial values are supplied one parameter at a time. */
  static from(config: LlamaConfig, values: (name: string, shape: readonly number[]) => Float32Array): LlamaModel {
    return LlamaModel.make(config, ({ name, shape }) => values(name, shape));
  }

  private static make(config: LlamaConfig, values: (parameter: Parameter) => Float32Array): LlamaModel {
    const parameters = new Map<string, Variable>();
    for (const parameter of parametersIn(modelParameters(config))) {
      parameters.set(parameter.name, variableOf(values(parameter), parameter.shape));
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
    return tidy(() => this.decoder.logits(this.decoder.hiddenStates(tokens, options)));
  }

  /** The logits of the last token only, [vocabSize]. */
  lastLogits(tokens: Ints, options: ForwardOptions = {}): Tensor1D {
    return tidy(() => {
      const hidden = this.decoder.hiddenStates(tokens, options);
      const last = hidden.slice([hidden.shape[0] - 1, 0], [1, hidden.shape[1]]);
      return this.decoder.logits(last).reshape([-1]) as Tensor1D;
    });
  }

  /**
   * The logits of the last token of each document, [S, vocabSize].
   *
   * @throws UserError where a token is not in the vocabulary, or a document has no token
   */
  nextLogits(tokens: Ints, options: ForwardOptions = {}): Tensor2D {
    return this.decoder.nextLogits(tokens, options);
  }

  /** The loss of every token in nats, [N], 0 where the target is −1; never holds all [N, vocabSize] logits. */
  tokenLosses(batch: TokenBatch, options: Pick<ForwardOptions, 'cache'> & ComputeOptions = {}): Tensor1D {
    return tokenLosses(this.decoder, batch, options);
  }

  /**
   * The loss of chosen targets in nats, and whether each is the likeliest token at its place. The output head runs over their
   * rows alone.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  targetScores(batch: TargetBatch, { cache }: Pick<ForwardOptions, 'cache'> = {}): TargetScores {
    return targetScores(this.decoder, batch, { cache });
  }

  /**
   * Puts tokens into the caches without asking what follows them.
   *
   * @throws UserError where a token is not in the vocabulary
   */
  extendCache(tokens: Ints, { cuSeqlens, cache }: Pick<ForwardOptions, 'cuSeqlens' | 'cache'>): void {
    tidy(() => {
      this.decoder.hiddenStates(tokens, { cuSeqlens, cache });
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
    options: ComputeOptions & {
      scale?: number;
      sums?: ReadonlyMap<string, Tensor> | undefined;
      onReady?: (name: string, gradient: Tensor) => Tensor;
    } = {},
  ): LossAndGradients {
    return lossAndGradients(this.decoder, this.parameters, batch, options);
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
    this.decoder.dispose();
  }
}

function variableOf(values: Float32Array, shape: readonly number[]): Variable {
  const initial = tensor(values, [...shape]);
  const made = variable(initial);
  initial.dispose();
  return made;
}
