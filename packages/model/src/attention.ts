/** One layer's attention: from the normalised hidden states to the projected output, for every kind a config can name. */
import {
  headNorm,
  linear,
  linears,
  type Position,
  remainderBias,
  softmaxAttention,
  softmaxWeights,
  stickBreakingAttention,
  stickBreakingWeights,
} from '@stickbreaking/core';
import { reshape, type Tensor, type Tensor1D, type Tensor2D, type Tensor3D } from '@tensorflow/tfjs-core';
import type { KeyValueCache } from './cache.js';
import type { LlamaConfig } from './config.js';

/** A parameter of the layer at hand by the last part of its name, such as `self_attn.q_proj.weight`. */
export type LayerParameters = (name: string) => Tensor;

/** What one layer's attention is made of, for looking into a model. The tensors live until the visit ends. */
export interface ObservedAttention {
  layer: number;
  /** [N, numHeads, headDim], before any rotation */
  q: Tensor3D;
  /** [N, numKvHeads, headDim], before any rotation */
  k: Tensor3D;
  /** Factor on q·k. */
  scale: number;
  /** The weights of one document, [numHeads, N, N]: row the query, column the key. */
  weights(): Tensor3D;
}

export interface AttentionContext {
  cuSeqlens: Int32Array;
  /** Keys and values of earlier tokens; then there is one document. */
  cache?: KeyValueCache;
  layer: number;
  observe?: (attention: ObservedAttention) => void;
}

/**
 * @param x [N, hiddenSize], normalised
 * @returns [N, hiddenSize]
 */
export function attend(
  x: Tensor2D,
  parameter: LayerParameters,
  config: LlamaConfig,
  context: AttentionContext,
): Tensor2D {
  const { numHeads, numKvHeads, headDim } = config;
  const projection = (name: string) => parameter(`self_attn.${name}_proj.weight`) as Tensor2D;
  const projected = linears(x, [projection('q'), projection('k'), projection('v')]);
  const byHead = (flat: Tensor2D, heads: number) => reshape(flat, [x.shape[0], heads, headDim]) as Tensor3D;
  const q = byHead(projected[0], numHeads);
  const fresh = { k: byHead(projected[1], numKvHeads), v: byHead(projected[2], numKvHeads) };
  const { cache, cuSeqlens, layer } = context;
  const { k, v } = cache ? cache.append(layer, fresh.k, fresh.v) : fresh;
  const cuSeqlensK = cache ? [0, k.shape[0]] : cuSeqlens;
  const scale = config.mup?.attentionMultiplier ?? 1 / Math.sqrt(headDim);
  context.observe?.({ layer, q, k, scale, weights: () => weightsOf(q, k, parameter, config, scale) });
  const output = mix(q, k, v, parameter, config, { cuSeqlens, cuSeqlensK, scale });
  const flat = reshape(output, [x.shape[0], numHeads * headDim]) as Tensor2D;
  return linear(flat, projection('o'));
}

function mix(
  q: Tensor3D,
  k: Tensor3D,
  v: Tensor3D,
  parameter: LayerParameters,
  config: LlamaConfig,
  packed: { cuSeqlens: Int32Array; cuSeqlensK: Int32Array | number[]; scale: number },
): Tensor3D {
  const { attention } = config;
  if (attention.kind === 'softmax') {
    const window = attention.window === undefined ? {} : { window: attention.window };
    return softmaxAttention(q, k, v, { ...packed, ...window, position: positionOf(config, parameter) });
  }
  const { attendCurrent } = attention;
  const { output, remainder } = stickBreakingAttention(q, k, v, { ...packed, attendCurrent });
  let mixed = output;
  if (attention.remainderBias) {
    mixed = remainderBias(mixed, remainder, parameter('self_attn.remainder_bias') as Tensor2D);
  }
  if (attention.headNorm) {
    const weight = parameter('self_attn.head_norm.weight') as Tensor2D;
    mixed = headNorm(mixed, weight, parameter('self_attn.head_norm.bias') as Tensor2D, config.normEpsilon);
  }
  return mixed;
}

function weightsOf(q: Tensor3D, k: Tensor3D, parameter: LayerParameters, config: LlamaConfig, scale: number): Tensor3D {
  const { attention } = config;
  if (attention.kind === 'stick-breaking') {
    return stickBreakingWeights(q, k, { scale, attendCurrent: attention.attendCurrent });
  }
  const window = attention.window === undefined ? {} : { window: attention.window };
  return softmaxWeights(q, k, { scale, ...window, position: positionOf(config, parameter) });
}

function positionOf({ attention, contextLength }: LlamaConfig, parameter: LayerParameters): Position {
  if (attention.kind !== 'softmax') return { kind: 'none' };
  const { position } = attention;
  if (position.kind === 'rope') {
    const { theta, scaling } = position;
    if (!scaling) return { kind: 'rope', theta };
    if (scaling.kind !== 'dynamic') return { kind: 'rope', theta, scaling };
    const originalContextLength = scaling.originalContextLength ?? contextLength;
    return { kind: 'rope', theta, scaling: { ...scaling, originalContextLength } };
  }
  if (position.kind !== 'fire') return position;
  const fire = (name: string) => parameter(`self_attn.fire.${name}`);
  return {
    kind: 'fire',
    initialThreshold: position.initialThreshold,
    parameters: {
      w1: fire('w1.weight') as Tensor2D,
      b1: fire('w1.bias') as Tensor1D,
      w2: fire('w2.weight') as Tensor2D,
      b2: fire('w2.bias') as Tensor1D,
      c: fire('c') as Tensor1D,
      thresholdMultiplier: fire('threshold_multiplier') as Tensor1D,
    },
  };
}
