/** The interface of a position scheme to softmax attention. */
import type { DecodeAttributes, Ints, Position } from '@stickbreaking/core';
import type { Tensor2D } from '@tensorflow/tfjs-core';
import type { z } from 'zod';
import type { Weights } from '../../parameter.js';
import type { ModelSizes } from '../../sizes.js';
import type { KindSchema, ParameterRecord, QueriesAndKeys } from '../attention_kind.js';

export interface PositionKind<Schema extends KindSchema = KindSchema, P extends ParameterRecord = ParameterRecord> {
  /** What a configuration may say under `attention.position`; every key but `kind` has a default. */
  readonly schema: Schema;
  /** What follows `softmax+` in the shorthand of softmax attention with this scheme. */
  readonly shorthand: string;
  /** Names, which begin with `self_attn.`, shapes and initial values. */
  parameters(position: z.output<Schema>, model: ModelSizes): P;
  /** What of a token, [N, hiddenSize], its key is to remember beside itself, [N, numKvHeads]; default: nothing. */
  gates?(x: Tensor2D, weights: Weights<P>): Tensor2D;
  /** The scheme as the attention op takes it. */
  toCore(position: z.output<Schema>, weights: Weights<P>, model: ModelSizes, keys: GatedKeys): Position;
  /** RoPE's inverse frequencies, [headDim/2], where a key is always turned by the same angles. */
  turnedBy?(position: z.output<Schema>, model: ModelSizes): Float64Array | undefined;
  /** What `decodeAttention` is told of the scheme; absent or undefined where it does not serve it. */
  decoding?(
    position: z.output<Schema>,
    model: ModelSizes,
  ): Omit<Extract<DecodeAttributes['attention'], { kind: 'softmax' }>, 'kind' | 'window'> | undefined;
  /** Whether it is the same in every head; default false. */
  headsAlike?: boolean;
  /** Factor on q·k that belongs to the scheme; default 1. */
  temperature?(position: z.output<Schema>): number;
  /** How many positions a trained model knows, where there is a limit. */
  reach?(position: z.output<Schema>, model: ModelSizes): number | undefined;
  /** Why a head dimension does not fit, as the end of a message that begins with its key; undefined if it fits. */
  headDimFault?(position: z.output<Schema>, headDim: number): string | undefined;
  /** What is done to queries and keys of each layer that has the scheme, before they are cached; default: nothing. */
  shape?(inputs: QueriesAndKeys, position: z.output<Schema>): QueriesAndKeys;
  /** Whether `python/modeling_stickbreaking.py` computes it; default false. */
  inPython?(position: z.output<Schema>): boolean;
  /** Its keys in Hugging Face's config.json; absent or undefined if `transformers` has no LLaMA with this scheme. */
  toHuggingFace?(position: z.output<Schema>, model: ModelSizes): Record<string, unknown> | undefined;
}

/** What the keys remember, and whose they are. */
export interface GatedKeys {
  /** [M, numKvHeads] of a scheme that has gates. */
  gates: Tensor2D | undefined;
  /** [S+1] boundaries of the documents among the keys. */
  cuSeqlens: Ints;
}

/** Only checks and infers types. */
export function definePositionKind<Schema extends KindSchema, P extends ParameterRecord>(
  kind: PositionKind<Schema, P>,
): PositionKind<Schema, P> {
  return kind;
}
