/** The interface of an attention kind to the rest of the model: everything that differs between kinds, in one place. */
import type { AttentionRing, DecodeAttributes } from '@stickbreaking/core';
import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import type { z } from 'zod';
import type { Parameter, Weights } from '../parameter.js';
import type { ModelSizes } from '../sizes.js';

/** A section of the configuration whose `kind` distinguishes it from the alternatives. */
export type KindSchema = z.ZodObject<{ kind: z.ZodLiteral<string> } & Record<string, z.ZodType>>;

/** Learned parameters of an attention kind, apart from the projections that every kind has. */
export type ParameterRecord = Record<string, Parameter | undefined>;

/** Queries and keys by head, as `shape` leaves them, before any rotation. */
export interface QueriesAndKeys {
  /** [N, numHeads, headDim] */
  q: Tensor3D;
  /** [M, numKvHeads, headDim] */
  k: Tensor3D;
  /** Factor on q·k. */
  scale: number;
  /** [M, numKvHeads], what `gates` made of the keys' tokens, with a kind that has them. */
  gates?: Tensor2D | undefined;
}

/** Packed documents, each of which attends only to itself. */
export interface AttentionInputs extends QueriesAndKeys {
  /** [M, numKvHeads, headDim] */
  v: Tensor3D;
  /** [S+1] boundaries of the documents among the queries. */
  cuSeqlens: Int32Array;
  /** [S+1] boundaries among the keys; the queries of a document are the last of its keys. */
  cuSeqlensK: Int32Array;
  /** Whether q and k may be changed in place: nothing else reads them. */
  consumed: boolean;
  /** Whether q and k have been turned by `turnedBy`. */
  turned?: boolean;
}

/** What attention gives. */
export interface Attended {
  /** [N, numHeads, headDim] */
  output: Tensor3D;
  /** [N, numHeads], one minus the sum of each row's weights; absent where that is 0. */
  remainder?: Tensor2D;
}

/** A family of `transformers` models, by its `model_type`. */
export type Family = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'olmo2' | 'smollm3';

/** How a kind is written in Hugging Face's `config.json`. */
export interface HuggingFaceAttention {
  /** The families of `transformers` models that attend like this. */
  families: readonly Family[];
  /** Whether `python/modeling_stickbreaking.py` computes it; default false. */
  inPython?: boolean;
  /** Keys of config.json, in that of a family or of a type of our own. */
  keys(family: Family | undefined): Record<string, unknown>;
}

/** What does not fit, by its keys in the model's configuration, and the end of a message that begins with them. */
export interface SizesFault {
  path: string[];
  message: string;
}

/** An attention kind, such as stick-breaking. `attention/index.ts` lists them. */
export interface AttentionKind<Schema extends KindSchema = KindSchema, P extends ParameterRecord = ParameterRecord> {
  /** What a configuration may say under `attention`. */
  readonly schema: Schema;
  /** Single words, such as `softmax+rope`, and the configuration that each stands for. */
  readonly shorthands: Readonly<Record<string, z.input<Schema>>>;
  /** Whether a row of the weights may sum to less than one; what is missing is its remainder. */
  leavesRemainder(attention: z.output<Schema>): boolean;
  /** Names, which begin with `self_attn.`, shapes and initial values. */
  parameters(attention: z.output<Schema>, model: ModelSizes): P;
  /** Whether its keys remember something of their tokens beside themselves; default: no. */
  hasGates?(attention: z.output<Schema>): boolean;
  /** That, [N, numKvHeads], of tokens [N, hiddenSize]; undefined where they do not. */
  gates?(x: Tensor2D, weights: Weights<P>, attention: z.output<Schema>): Tensor2D | undefined;
  /** Why the model's sizes do not fit; undefined if they do. */
  fault?(attention: z.output<Schema>, sizes: Readonly<{ headDim: number; numLayers: number }>): SizesFault | undefined;
  /** The attention of one layer, from 0, where layers differ; default: the same in all. */
  inLayer?(attention: z.output<Schema>, layer: number): z.output<Schema>;
  /** What is done to new queries and keys before anything else, and before they are cached; default: nothing. */
  shape?(inputs: QueriesAndKeys, weights: Weights<P>, attention: z.output<Schema>, model: ModelSizes): QueriesAndKeys;
  /** The attention itself, which `finish` goes on from; differentiable in its inputs and parameters. */
  attend(inputs: AttentionInputs, weights: Weights<P>, attention: z.output<Schema>, model: ModelSizes): Attended;
  /**
   * RoPE's inverse frequencies, [headDim/2], where keys can be turned once and for all before they are cached; undefined where
   * they are cached as they are.
   */
  turnedBy?(attention: z.output<Schema>, model: ModelSizes): Float64Array | undefined;
  /** What `decodeAttention` is told of this kind; undefined where it does not serve it, and `attend` does. */
  decoding?(attention: z.output<Schema>, model: ModelSizes): DecodeAttributes['attention'] | undefined;
  /** What follows on `attend` and on `decodeAttention`: [N, numHeads, headDim]; default: nothing. */
  finish?(attended: Attended, weights: Weights<P>, attention: z.output<Schema>, model: ModelSizes): Tensor3D;
  /**
   * Whether `finish` reads the remainder, where processes may share out the heads of a long sequence; undefined where they may
   * not, since `attend` does something else in each head.
   */
  sharedHeads?(attention: z.output<Schema>): { readsRemainder: boolean } | undefined;
  /**
   * The same as `attend` by processes that share a sequence by tokens: queries, keys and values are this one's, and `cuSeqlens` is of
   * all. Undefined where that is not known to be possible.
   */
  attendInRing?(
    inputs: QueriesAndKeys & { v: Tensor3D; cuSeqlens: Int32Array },
    ring: AttentionRing,
    attention: z.output<Schema>,
  ): Attended;
  /** How many positions a trained model knows, where there is a limit. */
  reach?(attention: z.output<Schema>, model: ModelSizes): number | undefined;
  /** The attention matrix of one document, [numHeads, N, N], for pictures: row the query, column the key. */
  matrix(inputs: QueriesAndKeys, weights: Weights<P>, attention: z.output<Schema>, model: ModelSizes): Tensor3D;
  /** The kind in the keys of Hugging Face's `config.json`. */
  toHuggingFace(attention: z.output<Schema>, model: ModelSizes & { numLayers: number }): HuggingFaceAttention;
  /**
   * The attention of a `config.json` written by `transformers`, if it is of this kind.
   *
   * @throws UserError if it is, but with an option that is not supported
   */
  fromHuggingFace?(json: Record<string, unknown>, file: string): z.input<Schema> | undefined;
}

/** Only checks and infers types: the shapes of the parameters give the ranks of the weights. */
export function defineAttentionKind<Schema extends KindSchema, P extends ParameterRecord>(
  kind: AttentionKind<Schema, P>,
): AttentionKind<Schema, P> {
  return kind;
}
