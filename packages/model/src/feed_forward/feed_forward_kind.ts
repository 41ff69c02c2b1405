/** The interface of a feed-forward kind to the rest of the model: everything that differs between kinds. */
import type { MatmulPrecision } from '@stickbreaking/core';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import type { z } from 'zod';
import type { Parameter, Weights } from '../parameter.js';
import type { ModelSizes } from '../sizes.js';

/** What a layer's feed-forward is told beside its input. */
export interface FeedForwardContext {
  /** Of the matmuls. */
  precision: MatmulPrecision;
  /** Factor on the losses that a layer has of its own, which the gradients then include; 0: none. */
  lossWeight: number;
  /** Called by a layer that sends tokens to experts, with `Routing.routing` of core: [2 + experts], valid during the call. */
  onRouting?: ((routing: Tensor1D) => void) | undefined;
  /** How often each expert of this layer was chosen in the step before. */
  countsBefore?: readonly number[] | undefined;
}

/** Families of `transformers` models whose layers are not LLaMA's. */
export type FeedForwardFamily = 'granitemoe' | 'granitemoeshared';

export interface FeedForwardKind<
  Schema extends z.ZodType = z.ZodType,
  P extends Record<string, Parameter | undefined> = Record<string, Parameter | undefined>,
> {
  /** The value of the configuration's key that selects this kind. */
  readonly schema: Schema;
  /** Names, shapes and initial values. */
  parameters(setting: z.output<Schema>, model: ModelSizes): P;
  /** From the normalised hidden states [N, hiddenSize] to what is added to the residual stream, [N, hiddenSize]. */
  forward(x: Tensor2D, weights: Weights<P>, setting: z.output<Schema>, context: FeedForwardContext): Tensor2D;
  /** How many of a layer's parameters a token does not pass; default none. */
  unusedPerToken?(setting: z.output<Schema>, model: ModelSizes): number;
  /** How many of a layer's parameters are those of the experts that a router has chosen for a token; default none. */
  routedPerToken?(setting: z.output<Schema>, model: ModelSizes): number;
  /** How many experts a router chooses from, where there is one. */
  experts?(setting: z.output<Schema>): number;
  /** Whether a training step depends on how often each expert was chosen in the one before; default not. */
  usesCountsBefore?(setting: z.output<Schema>): boolean;
  /** How many numbers are saved for the backward for each token, the residual stream and the norm in front included. */
  savedPerToken(setting: z.output<Schema>, model: ModelSizes): number;
  /** How many numbers of 16 bits a GPU's kernels save for each token besides; default none. */
  savedBesidesOnGpu?(setting: z.output<Schema>, model: ModelSizes): number;
  /** How many numbers the backward holds for each token when it holds most, with those of the above that are left. */
  backwardPerToken(setting: z.output<Schema>, model: ModelSizes): number;
  /** The family of `transformers` models that has such layers; undefined if none does. Default: LLaMA's and its like. */
  family?(setting: z.output<Schema>, model: ModelSizes): FeedForwardFamily | undefined;
  /** Keys of Hugging Face's config.json. */
  toHuggingFace(setting: z.output<Schema>): Record<string, unknown>;
  /**
   * The setting in a `config.json` of `transformers`, if it is of this kind.
   *
   * @throws UserError that names the key if it is, but does not fit
   */
  fromHuggingFace(json: Record<string, unknown>, file: string): z.input<Schema> | undefined;
}

/** Only checks and infers types: the shapes of the parameters give the ranks of the weights. */
export function defineFeedForwardKind<Schema extends z.ZodType, P extends Record<string, Parameter | undefined>>(
  kind: FeedForwardKind<Schema, P>,
): FeedForwardKind<Schema, P> {
  return kind;
}
