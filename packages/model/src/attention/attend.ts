/** One layer's attention, whatever its kind: from the normalised hidden states to the projected output. */
import { linear, linears } from '@stickbreaking/core';
import { reshape, type Tensor2D, type Tensor3D } from '@tensorflow/tfjs-core';
import type { KeyValueCache } from '../cache.js';
import type { LlamaConfig } from '../config.js';
import { normal, parameter, type Weights } from '../parameter.js';
import { attentionKind } from './index.js';

/** One layer's attention, for looking into a model. The tensors are valid only during the callback. */
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
  /** Keys and values of earlier tokens; there is then only one document. */
  cache?: KeyValueCache | undefined;
  observe?: ((attention: ObservedAttention) => void) | undefined;
}

/** The projections, which every kind has, and the parameters that the kind adds. */
export function attentionParameters(config: LlamaConfig) {
  const { hiddenSize, numHeads, numKvHeads, headDim, initializerRange } = config;
  const initial = normal(initializerRange);
  const [queries, keys] = [numHeads * headDim, numKvHeads * headDim];
  return {
    q: parameter('self_attn.q_proj.weight', [queries, hiddenSize], initial),
    k: parameter('self_attn.k_proj.weight', [keys, hiddenSize], initial),
    v: parameter('self_attn.v_proj.weight', [keys, hiddenSize], initial),
    o: parameter('self_attn.o_proj.weight', [hiddenSize, queries], initial),
    own: attentionKind(config.attention).parameters(config.attention, config),
  };
}

/**
 * @param x [N, hiddenSize], normalised
 * @returns [N, hiddenSize]
 */
export function attend(
  x: Tensor2D,
  weights: Weights<ReturnType<typeof attentionParameters>>,
  config: LlamaConfig,
  layer: number,
  { cuSeqlens, cache, observe }: AttentionContext,
): Tensor2D {
  const { attention, numHeads, numKvHeads, headDim } = config;
  const kind = attentionKind(attention);
  const projected = linears(x, [weights.q, weights.k, weights.v]);
  const byHead = (flat: Tensor2D, heads: number) => reshape(flat, [x.shape[0], heads, headDim]) as Tensor3D;
  const q = byHead(projected[0], numHeads);
  const fresh = { k: byHead(projected[1], numKvHeads), v: byHead(projected[2], numKvHeads) };
  const { k, v } = cache ? cache.append(layer, fresh.k, fresh.v) : fresh;
  const scale = config.mup?.attentionMultiplier ?? 1 / Math.sqrt(headDim);
  const matrix = () => kind.matrix({ q, k, scale }, weights.own, attention, config);
  observe?.({ layer, q, k, scale, weights: matrix });
  const cuSeqlensK = cache ? Int32Array.of(0, k.shape[0]) : cuSeqlens;
  const consumed = !cache && !observe;
  const output = kind.attend({ q, k, v, cuSeqlens, cuSeqlensK, scale, consumed }, weights.own, attention, config);
  return linear(reshape(output, [x.shape[0], numHeads * headDim]) as Tensor2D, weights.o);
}
