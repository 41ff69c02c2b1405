/** The interface of a feed-forward kind to the rest of the model: everything that differs between kinds. */
import type { MatmulPrecision } from '@stickbreaking/core';
import type { Tensor2D } from '@tensorflow/tfjs-core';
import type { z } from 'zod';
import type { Parameter, Weights } from '../parameter.js';
import type { ModelSizes } from '../sizes.js';

export interface FeedForwardKind<
  Schema extends z.ZodType = z.ZodType,
  P extends Record<string, Parameter | undefined> = Record<string, Parameter | undefined>,
> {
  /** The value of the configuration's key that selects this kind. */
  readonly schema: Schema;
  /** Names, shapes and initial values. */
  parameters(setting: z.output<Schema>, model: ModelSizes): P;
  /** From the normalised hidden states [N, hiddenSize] to what is added to the residual stream, [N, hiddenSize]. */
  forward(x: Tensor2D, weights: Weights<P>, setting: z.output<Schema>, precision: MatmulPrecision): Tensor2D;
  /** How many numbers are saved for the backward for each token, the residual stream and the norm in front included. */
  savedPerToken(setting: z.output<Schema>, model: ModelSizes): number;
  /** How many numbers the backward holds for each token when it holds most, with those of the above that are left. */
  backwardPerToken(setting: z.output<Schema>, model: ModelSizes): number;
  /** Keys of Hugging Face's config.json. */
  toHuggingFace(setting: z.output<Schema>): Record<string, unknown>;
  /** The setting in a `config.json` of `transformers`. @throws UserError that names the key if it does not fit */
  fromHuggingFace(json: Record<string, unknown>, file: string): unknown;
}

/** Only checks and infers types: the shapes of the parameters give the ranks of the weights. */
export function defineFeedForwardKind<Schema extends z.ZodType, P extends Record<string, Parameter | undefined>>(
  kind: FeedForwardKind<Schema, P>,
): FeedForwardKind<Schema, P> {
  return kind;
}
