/** One layer of a decoder: RMSNorm, attention, RMSNorm and feed-forward, with residual connections. */
import { type MatmulPrecision, recomputed, residual, residualRmsNorm, rmsNorm } from '@stickbreaking/core';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import { type AttentionContext, attend } from './attention/attend.js';
import type { LlamaConfig } from './config.js';
import type { FeedForwardContext } from './feed_forward/feed_forward_kind.js';
import { feedForwardOf } from './feed_forward/index.js';
import { variablesIn, type Weights } from './parameter.js';
import type { layerParameters } from './parameters.js';

/** What a training step recomputes in its backward instead of keeping it: nothing, each attention, or each layer. */
export type Recompute = 'none' | 'attention' | 'block';

/** What passes from layer to layer: the residual stream and, if already computed, its norm for the next layer. */
export type Stream = {
  /** [N, hiddenSize] */
  x: Tensor2D;
  /** [N, hiddenSize] */
  normalised?: Tensor2D;
};

export interface LayerContext extends AttentionContext, FeedForwardContext {
  /** From 0. */
  layer: number;
  /** The weight of the norm that reads the layer's output. */
  nextNorm: Tensor1D;
  recompute: Recompute;
  /** Of the layer's matmuls. */
  precision: MatmulPrecision;
}

/**
 * Without recomputation, each residual connection is fused with the norm that reads it, including the next layer's
 * first norm. A part that is recomputed starts with its norm and ends with its residual connection, so that only x is
 * kept for it.
 */
export function runLayer(
  { x, normalised }: Stream,
  weights: Weights<ReturnType<typeof layerParameters>>,
  config: LlamaConfig,
  { layer, nextNorm, recompute, lossWeight, onRouting, ...context }: LayerContext,
): Stream {
  const epsilon = config.normEpsilon;
  const multiplier = config.mup?.residualMultiplier ?? 1;
  const { kind, setting } = feedForwardOf(config);
  const { precision } = context;
  const readBy = precision;
  const attention = (input: Tensor2D, known?: Tensor2D) => {
    const normalised = known ?? rmsNorm(input, weights.inputNorm, epsilon, { readBy });
    return attend(normalised, weights.attention, config, layer, context);
  };
  // A layer that the backward runs again tells nothing anew.
  let told = false;
  const tellOnce = (routing: Tensor1D) => {
    if (!told) onRouting?.(routing);
    told = true;
  };
  const feedForward = (input: Tensor2D) =>
    kind.forward(input, weights.feedForward, setting, { precision, lossWeight, onRouting: tellOnce });
  const join = (input: Tensor2D, branch: Tensor2D, weight: Tensor1D) =>
    residualRmsNorm(input, branch, weight, { epsilon, multiplier, readBy });
  const whole = (input: Tensor2D, branch: Tensor2D) => {
    const middle = join(input, branch, weights.middleNorm);
    return residual(middle.sum, feedForward(middle.normalised), multiplier);
  };
  switch (recompute) {
    case 'block':
      return { x: recomputed((input) => whole(input, attention(input)), x, variablesIn(weights)) };
    case 'attention': {
      const read = variablesIn([weights.inputNorm, weights.attention]);
      return { x: whole(x, recomputed(attention, x, read)) };
    }
    case 'none': {
      const middle = join(x, attention(x, normalised), weights.middleNorm);
      const end = join(middle.sum, feedForward(middle.normalised), nextNorm);
      return { x: end.sum, normalised: end.normalised };
    }
  }
}
