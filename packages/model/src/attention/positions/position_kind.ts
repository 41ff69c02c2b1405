/** What a position scheme is to softmax attention. */
import type { Position } from '@stickbreaking/core';
import type { z } from 'zod';
import type { Weights } from '../../parameter.js';
import type { ModelSizes } from '../../sizes.js';
import type { KindSchema, ParameterRecord } from '../attention_kind.js';

export interface PositionKind<Schema extends KindSchema = KindSchema, P extends ParameterRecord = ParameterRecord> {
  /** What a configuration may say under `attention.position`; every key but `kind` has a default. */
  readonly schema: Schema;
  /** `softmax+…` with this behind it is softmax attention with this scheme. */
  readonly shorthand: string;
  /** Names begin with `self_attn.`; shapes and first values. */
  parameters(position: z.output<Schema>, model: ModelSizes): P;
  /** The scheme as the attention kernels take it. */
  toCore(position: z.output<Schema>, weights: Weights<P>, model: ModelSizes): Position;
  /** What is wrong with a head dimension, as a message that follows its key. */
  headDimFault?(headDim: number): string | undefined;
  /** Its keys of Hugging Face's config.json; left out where `transformers` has no LLaMA with such positions. */
  toHuggingFace?(position: z.output<Schema>, model: ModelSizes): Record<string, unknown>;
}

/** Only checks and infers types. */
export function definePositionKind<Schema extends KindSchema, P extends ParameterRecord>(
  kind: PositionKind<Schema, P>,
): PositionKind<Schema, P> {
  return kind;
}
