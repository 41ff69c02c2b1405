/** One layer's attention, whatever its kind: from the normalised hidden states to the projected output. */
import {
  decodeAttention,
  linear,
  linears,
  type MatmulPrecision,
  readPages,
  remainderBias,
  rotaryEmbedding,
  writePages,
} from '@stickbreaking/core';
import { expandDims, fill, reshape, squeeze, type Tensor1D, type Tensor2D, type Tensor3D } from '@tensorflow/tfjs-core';
import type { CachePlan } from '../cache_plan.js';
import type { LlamaConfig } from '../config.js';
import { normal, parameter, type Weights, zeros } from '../parameter.js';
import { attentionScale } from '../sizes.js';
import type { Attended, QueriesAndKeys } from './attention_kind.js';
import { type AttentionConfig, attentionIn, attentionKind } from './index.js';
import { type SequenceGroup, toHeads, toTokens } from './shared_sequence.js';

/** One layer's attention, for looking into a model. The tensors are valid only during the callback. */
export interface ObservedAttention {
  layer: number;
  /** [N, numHeads, headDim], normalised where the model does so, before any rotation, with the dimensions that meet in it in pairs */
  q: Tensor3D;
  /** [N, numKvHeads, headDim], likewise */
  k: Tensor3D;
  /** Factor on q·k. */
  scale: number;
  /** [N, numKvHeads] what the keys remember beside themselves, with a kind that has such gates. */
  gates?: Tensor2D | undefined;
  /** The weights of one document, [numHeads, N, N]: row the query, column the key. */
  weights(): Tensor3D;
  /** What the weights make of other values [N, numKvHeads, headDim], in O(N) memory. */
  mix(values: Tensor3D): Attended;
}

export interface AttentionContext {
  cuSeqlens: Int32Array;
  /** Where keys and values of earlier tokens lie, and the new ones go. */
  cache?: CachePlan | undefined;
  observe?: ((attention: ObservedAttention) => void) | undefined;
  /** Told how many keys each key-value head has read, int32 [N, numKvHeads], where single tokens attend to a cache. */
  onKeysRead?: ((keysRead: Tensor2D) => void) | undefined;
  /** Processes that share the sequence: x has this one's tokens, and `cuSeqlens` is of all. Without a cache. */
  sequence?: SequenceGroup | undefined;
  /** Of the projections; default: the backend's own. */
  precision?: MatmulPrecision;
}

/** The projections, which every kind has, and the parameters that the kind adds. */
export function attentionParameters(config: LlamaConfig) {
  const { hiddenSize, numHeads, numKvHeads, headDim, initializerRange, projectionBiases: biases } = config;
  const initial = normal(initializerRange);
  const [queries, keys] = [numHeads * headDim, numKvHeads * headDim];
  return {
    q: parameter('self_attn.q_proj.weight', [queries, hiddenSize], initial),
    k: parameter('self_attn.k_proj.weight', [keys, hiddenSize], initial),
    v: parameter('self_attn.v_proj.weight', [keys, hiddenSize], initial),
    o: parameter('self_attn.o_proj.weight', [hiddenSize, queries], initial),
    qBias: biases ? parameter('self_attn.q_proj.bias', [queries], zeros) : undefined,
    kBias: biases ? parameter('self_attn.k_proj.bias', [keys], zeros) : undefined,
    vBias: biases ? parameter('self_attn.v_proj.bias', [keys], zeros) : undefined,
    oBias: biases === 'qkvo' ? parameter('self_attn.o_proj.bias', [hiddenSize], zeros) : undefined,
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
  { cuSeqlens, cache, observe, onKeysRead, sequence, precision = 'default' }: AttentionContext,
): Tensor2D {
  const { hiddenSize, numHeads, numKvHeads, headDim } = config;
  const attention = attentionIn(config.attention, layer);
  const kind = attentionKind(attention);
  const projected = linears(x, [weights.q, weights.k, weights.v], { precision });
  const byHead = (flat: Tensor2D, heads: number, bias: Tensor1D | undefined) =>
    biased(reshape(flat, [x.shape[0], heads, headDim]) as Tensor3D, bias);
  const plain = {
    gates: kind.gates?.(x, weights.own, attention),
    q: byHead(projected[0], numHeads, weights.qBias),
    k: byHead(projected[1], numKvHeads, weights.kBias),
  };
  const v = byHead(projected[2], numKvHeads, weights.vBias);
  const scale = attentionScale(config);
  const shaped = kind.shape?.({ ...plain, scale }, weights.own, attention, config) ?? { ...plain, scale };
  const packed = { ...shaped, cuSeqlens, cuSeqlensK: cuSeqlens, consumed: !observe };
  const attendTo = (inputs: QueriesAndKeys & { v: Tensor3D }) =>
    kind.attend({ ...packed, ...inputs }, weights.own, attention, config);
  const attended = cache
    ? attendCached({ ...shaped, v }, weights.own, { ...config, attention }, layer, cache, onKeysRead)
    : sequence
      ? attendTogether({ ...shaped, v, cuSeqlens }, attention, sequence, attendTo)
      : attendTo({ ...shaped, v });
  const output = kind.finish?.(attended, weights.own, attention, config) ?? attended.output;
  observe?.({
    ...{ layer, ...shaped },
    weights: () => kind.matrix(shaped, weights.own, attention, config),
    mix: (values) => kind.attend({ ...packed, v: values }, weights.own, attention, config),
  });
  const joined = linear(reshape(output, [x.shape[0], numHeads * headDim]) as Tensor2D, weights.o, { precision });
  if (!weights.oBias) return joined;
  return reshape(biased(reshape(joined, [x.shape[0], 1, hiddenSize]) as Tensor3D, weights.oBias), joined.shape);
}

/**
 * Attends over all tokens of a sequence of which this process has a part: with its share of the heads, or with its own queries, to
 * which the others' keys come.
 */
function attendTogether(
  inputs: QueriesAndKeys & { v: Tensor3D; cuSeqlens: Int32Array },
  attention: AttentionConfig,
  group: SequenceGroup,
  attendTo: (inputs: QueriesAndKeys & { v: Tensor3D }) => Attended,
): Attended {
  const kind = attentionKind(attention);
  const { q, k, v, scale } = inputs;
  if (group.by === 'ring') {
    if (!kind.attendInRing) throw new Error('this attention does not go round a ring'); // refused with the configuration
    return kind.attendInRing(inputs, group, attention);
  }
  const shared = kind.sharedHeads?.(attention);
  if (!shared) throw new Error('the heads of this attention cannot be shared out'); // refused with the configuration
  const [ownQ, ownK, ownV] = [q, k, v].map((x) => toHeads(x, group)) as [Tensor3D, Tensor3D, Tensor3D];
  const { output, remainder } = attendTo({ q: ownQ, k: ownK, v: ownV, scale });
  const attended = { output: toTokens(output, group) };
  if (!shared.readsRemainder || !remainder) return attended;
  const byHead = toTokens(reshape(remainder, [...remainder.shape, 1]) as Tensor3D, group);
  return { ...attended, remainder: reshape(byHead, [byHead.shape[0], byHead.shape[1]]) };
}

/** With the bias on every token; as it is, where there is none. */
function biased(x: Tensor3D, bias: Tensor1D | undefined): Tensor3D {
  if (!bias) return x;
  const [tokens, heads, headDim] = x.shape;
  // What a remainder of one adds to every token.
  return remainderBias(x, fill([tokens, heads], 1), reshape(bias, [heads, headDim]));
}

/** Puts the new keys and values into the cache and attends to all that are there. */
function attendCached(
  { q, k, v, scale, gates }: QueriesAndKeys & { v: Tensor3D },
  own: Weights<ReturnType<typeof attentionParameters>>['own'],
  config: LlamaConfig,
  layer: number,
  cache: CachePlan,
  onKeysRead: AttentionContext['onKeysRead'],
): Attended {
  const { attention } = config;
  const kind = attentionKind(attention);
  const pages = cache.layer(layer);
  const inverseFrequencies = kind.turnedBy?.(attention, config);
  const decoding = cache.single ? kind.decoding?.(attention, config) : undefined;
  if (decoding) {
    const { lengths, table } = cache;
    const options = { lengths, table, scale, attention: decoding, keyPages: pages.k, valuePages: pages.v };
    const turning = inverseFrequencies ? { inverseFrequencies } : {};
    const { output, remainder, keysRead } = decodeAttention(q, k, v, { ...options, ...turning });
    onKeysRead?.(keysRead);
    return { output, remainder };
  }
  const { cuSeqlens, cuSeqlensK, firstPositions, slots } = cache;
  const turned = inverseFrequencies
    ? rotaryEmbedding(q, k, { cuSeqlens, firstPositions, inverseFrequencies })
    : { q, k };
  writePages(turned.k, v, pages.k, pages.v, slots);
  const keys = cache.fresh
    ? { k: turned.k, v, gates }
    : { k: readPages(pages.k, cache.keySlots()), v: readPages(pages.v, cache.keySlots()), gates };
  if (gates && pages.gates) {
    const own = expandDims(gates, 2);
    writePages(own, own, pages.gates, pages.gates, slots);
    if (!cache.fresh) keys.gates = squeeze(readPages(pages.gates, cache.keySlots()), [2]);
  }
  const packed = { cuSeqlens, cuSeqlensK, scale, consumed: false, turned: inverseFrequencies !== undefined };
  return kind.attend({ q: turned.q, ...keys, ...packed }, own, attention, config);
}
