/** A model's parameters by Hugging Face's names: their shapes, their number and their initial values. */
import { generator } from '@stickbreaking/base';
import { attentionParameters } from './attention/attend.js';
import type { LlamaConfig } from './config.js';
import { feedForwardOf } from './feed_forward/index.js';
import { normal, ones, type Parameter, parameter, parametersIn, prefixed } from './parameter.js';

/** All parameters, in the order in which they are saved. */
export function modelParameters(config: LlamaConfig) {
  const { vocabSize, hiddenSize, numLayers, tieEmbeddings } = config;
  const initial = normal(config.initializerRange);
  return {
    embedding: parameter('model.embed_tokens.weight', [vocabSize, hiddenSize], initial),
    layers: Array.from({ length: numLayers }, (_, i) => prefixed(`model.layers.${i}.`, layerParameters(config))),
    norm: parameter('model.norm.weight', [hiddenSize], ones),
    /** With tied embeddings, the embedding is the output head too. */
    head: tieEmbeddings ? undefined : parameter('lm_head.weight', [vocabSize, hiddenSize], initial),
  };
}

/** One layer's parameters. */
export function layerParameters(config: LlamaConfig) {
  const { hiddenSize, normPlacement } = config;
  const { kind, setting } = feedForwardOf(config);
  const norm = (name: string) => parameter(name, [hiddenSize], ones);
  const isBefore = normPlacement !== 'after';
  return {
    inputNorm: isBefore ? norm('input_layernorm.weight') : undefined,
    attention: attentionParameters(config),
    /** Before the feed-forward, or after the attention. */
    middleNorm: norm('post_attention_layernorm.weight'),
    feedForward: kind.parameters(setting, config),
    endNorm: isBefore ? undefined : norm('post_feedforward_layernorm.weight'),
  };
}

/** Names and shapes of all parameters, in the order of the layers; weight matrices are [out, in]. */
export function parameterShapes(config: LlamaConfig): Map<string, number[]> {
  return new Map(parametersIn(modelParameters(config)).map(({ name, shape }) => [name, [...shape]]));
}

/** The number of parameters; allocates none of them. */
export function countParameters(config: LlamaConfig): number {
  return parametersIn(modelParameters(config)).reduce((total, one) => total + sizeOf(one), 0);
}

/** How many of them a token passes: all, but for experts that it does not choose. */
export function countActiveParameters(config: LlamaConfig): number {
  const { kind, setting } = feedForwardOf(config);
  return countParameters(config) - config.numLayers * (kind.unusedPerToken?.(setting, config) ?? 0);
}

/**
 * Floating-point operations of a token's forward and backward pass, by the convention of model FLOPs utilisation: six for each
 * parameter that it passes, and those of the attention over a whole causal context (https://arxiv.org/abs/2204.02311, appendix B,
 * whose full square is halved here). What a backward computes again does not count.
 */
export function trainingFlopsPerToken(config: LlamaConfig, contextLength = config.contextLength): number {
  const { numLayers, numHeads, headDim } = config;
  return 6 * countActiveParameters(config) + 6 * numLayers * numHeads * headDim * contextLength;
}

/** How many of the parameters that a token passes are of experts that routers have chosen. */
export function countRoutedParameters(config: LlamaConfig): number {
  const { kind, setting } = feedForwardOf(config);
  return config.numLayers * (kind.routedPerToken?.(setting, config) ?? 0);
}

/** Initial values of one parameter, the same for the same seed and name on every machine. */
export function initialValues(parameter: Parameter, seed: number): Float32Array {
  const values = new Float32Array(sizeOf(parameter));
  parameter.initial(values, generator(seed, parameter.name));
  return values;
}

/** How many numbers it has. */
export const sizeOf = ({ shape }: Parameter) => shape.reduce((product, length) => product * length, 1);
