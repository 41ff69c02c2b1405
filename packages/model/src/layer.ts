/** One layer of a decoder: attention and feed-forward with residual connections, each with an RMSNorm before or after it. */
import {
  type MatmulPrecision,
  type ResidualType,
  recomputed,
  residual,
  residualRmsNorm,
  rmsNorm,
} from '@stickbreaking/core';
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
  /** Of the residual stream. */
  residualType: ResidualType;
}

type LayerWeights = Weights<ReturnType<typeof layerParameters>>;

/** From x to the next layer's x. */
export function runLayer(stream: Stream, weights: LayerWeights, config: LlamaConfig, context: LayerContext): Stream {
  const { inputNorm, endNorm } = weights;
  if (endNorm) return { x: runNormsAfter(stream.x, { ...weights, endNorm }, config, context) };
  return runNormsBefore(stream, { ...weights, inputNorm: inputNorm! }, config, context);
}

/**
 * Without recomputation, each residual connection is fused with the norm that reads it, including the next layer's
 * first norm. A part that is recomputed starts with its norm and ends with its residual connection, so that only x is
 * kept for it.
 */
function runNormsBefore(
  { x, normalised }: Stream,
  weights: LayerWeights & { inputNorm: Tensor1D },
  config: LlamaConfig,
  context: LayerContext,
): Stream {
  const epsilon = config.normEpsilon;
  const multiplier = config.mup?.residualMultiplier ?? 1;
  const { nextNorm, recompute, precision: readBy, residualType } = context;
  const branches = branchesOf(weights, config, context);
  const attention = (input: Tensor2D, known?: Tensor2D) =>
    branches.attention(known ?? rmsNorm(input, weights.inputNorm, epsilon, { readBy, residualType }));
  // A part that runs again reads its input again.
  const consumed = recompute === 'none';
  const join = (input: Tensor2D, branch: Tensor2D, weight: Tensor1D) =>
    residualRmsNorm(input, branch, weight, { epsilon, multiplier, readBy, residualType, consumed });
  const whole = (input: Tensor2D, branch: Tensor2D) => {
    const middle = join(input, branch, weights.middleNorm);
    const end = branches.feedForward(middle.normalised);
    return residual(middle.sum, end, multiplier, { residualType, consumed: true });
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
      const end = join(middle.sum, branches.feedForward(middle.normalised), nextNorm);
      return { x: end.sum, normalised: end.normalised };
    }
  }
}

/** As in OLMo 2: attention and feed-forward read the residual stream as it is, and what they give is normalised. */
function runNormsAfter(
  x: Tensor2D,
  weights: LayerWeights & { endNorm: Tensor1D },
  config: LlamaConfig,
  context: LayerContext,
): Tensor2D {
  const { residualType, recompute } = context;
  const branches = branchesOf(weights, config, context);
  const normalised = (branch: Tensor2D, weight: Tensor1D) => rmsNorm(branch, weight, config.normEpsilon);
  const attention = (input: Tensor2D) => normalised(branches.attention(input), weights.middleNorm);
  const join = (input: Tensor2D, branch: Tensor2D) =>
    residual(input, branch, config.mup?.residualMultiplier ?? 1, { residualType, consumed: recompute === 'none' });
  const whole = (input: Tensor2D, branch: Tensor2D) => {
    const middle = join(input, branch);
    return join(middle, normalised(branches.feedForward(middle), weights.endNorm));
  };
  switch (recompute) {
    case 'block':
      return recomputed((input) => whole(input, attention(input)), x, variablesIn(weights));
    case 'attention':
      return whole(x, recomputed(attention, x, variablesIn([weights.attention, weights.middleNorm])));
    case 'none':
      return whole(x, attention(x));
  }
}

/** What a layer adds to the residual stream, from what each of the two reads. */
function branchesOf(
  weights: LayerWeights,
  config: LlamaConfig,
  {
    layer,
    nextNorm: _,
    recompute: _how,
    residualType: _type,
    lossWeight,
    onRouting,
    countsBefore,
    ...context
  }: LayerContext,
): { attention(input: Tensor2D): Tensor2D; feedForward(input: Tensor2D): Tensor2D } {
  const { kind, setting } = feedForwardOf(config);
  // A layer that the backward runs again tells nothing anew.
  let told = false;
  const tellOnce = (routing: Tensor1D) => {
    if (!told) onRouting?.(routing);
    told = true;
  };
  const { precision } = context;
  return {
    attention: (input) => attend(input, weights.attention, config, layer, context),
    feedForward: (input) =>
      kind.forward(input, weights.feedForward, setting, { precision, lossWeight, onRouting: tellOnce, countsBefore }),
  };
}
