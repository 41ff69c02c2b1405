/** What a feed-forward kind is to the rest of the model: everything that differs from one kind to another. */
import type { Tensor2D } from '@tensorflow/tfjs-core';
import type { z } from 'zod';
import type { Parameter, Weights } from '../parameter.js';
import type { ModelSizes } from '../sizes.js';

export interface FeedForwardKind<
  Schema extends z.ZodType = z.ZodType,
  P extends Record<string, Parameter | undefined> = Record<string, Parameter | undefined>,
> {
  /** What the configuration says under the key that calls for this kind. */
  readonly schema: Schema;
  /** Names, shapes and first values. */
  parameters(setting: z.output<Schema>, model: ModelSizes): P;
  /** From the normalised hidden states [N, hiddenSize] to what is added to the residual stream, [N, hiddenSize]. */
  forward(x: Tensor2D, weights: Weights<P>, setting: z.output<Schema>): Tensor2D;
  /** Numbers that a token leaves for the backward, the norm in front included. */
  savedPerToken(setting: z.output<Schema>, model: ModelSizes): number;
  /** Keys of Hugging Face's config.json. */
  toHuggingFace(setting: z.output<Schema>): Record<string, unknown>;
  /** The setting that a `config.json` of `transformers` holds; the schema looks at it afterwards. */
  fromHuggingFace(json: Record<string, unknown>): unknown;
}

/** Only checks and infers types: the parameters' shapes become the ranks of the weights. */
export function defineFeedForwardKind<Schema extends z.ZodType, P extends Record<string, Parameter | undefined>>(
  kind: FeedForwardKind<Schema, P>,
): FeedForwardKind<Schema, P> {
  return kind;
}
