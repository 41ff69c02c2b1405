/** What a model's predictions are worth: the losses of tokens, and their gradients. */
import {
  embedding,
  linearCrossEntropy,
  linearTargetScores,
  type TargetScores,
  valueAndGradients,
} from '@stickbreaking/core';
import {
  concat,
  dispose,
  keep,
  mul,
  type Scalar,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tidy,
  type Variable,
  zerosLike,
} from '@tensorflow/tfjs-core';
import { scoredTokens, type TargetBatch, type TokenBatch } from './batch.js';
import type { ComputeOptions, Decoder, ForwardOptions, Routed } from './decoder.js';

/** As `LlamaModel.gradients` has them. */
interface GradientOptions extends ComputeOptions {
  scale?: number;
  sums?: ReadonlyMap<string, Tensor> | undefined;
  onReady?: (name: string, gradient: Tensor) => Tensor;
}

/** The gradients of a batch. */
export interface LossAndGradients {
  /** Of the tokens, times the scale; a layer's own losses are in the gradients alone. */
  loss: Scalar;
  /** For every parameter. */
  gradients: Map<string, Tensor>;
  /**
   * Of a mixture of experts, [numLayers, 2 + experts]: each layer's balance loss (1 where all experts have as many tokens),
   * its z loss, and how often each expert was chosen.
   */
  routing?: Tensor2D;
}

/** See `LlamaModel.tokenLosses`. */
export function tokenLosses(
  decoder: Decoder,
  batch: TokenBatch,
  options: Pick<ForwardOptions, 'cache'> & ComputeOptions & Routed,
): Tensor1D {
  return tidy(() => {
    decoder.checkTokens(batch.targets, -1);
    const { cache, ...compute } = options;
    const hidden = decoder.hiddenStates(batch.tokens, { cache, cuSeqlens: batch.cuSeqlens }, compute);
    const targets = tensor1d(Int32Array.from(batch.targets), 'int32');
    return linearCrossEntropy(hidden, decoder.outputWeight, targets, { logitScale: decoder.logitScale });
  });
}

/** See `LlamaModel.targetScores`. */
export function targetScores(
  decoder: Decoder,
  { tokens, cuSeqlens, rows, targets }: TargetBatch,
  { cache }: Pick<ForwardOptions, 'cache'>,
): TargetScores {
  return tidy(() => {
    decoder.checkTokens(targets, -1);
    const hidden = decoder.hiddenStates(tokens, { cache, cuSeqlens });
    const chosen = embedding(tensor1d(Int32Array.from(rows), 'int32'), hidden);
    const ids = tensor1d(Int32Array.from(targets), 'int32');
    return { ...linearTargetScores(chosen, decoder.outputWeight, ids, { logitScale: decoder.logitScale }) };
  });
}

/** See `LlamaModel.gradients`. */
export function lossAndGradients(
  decoder: Decoder,
  variables: ReadonlyMap<string, Variable>,
  batch: TokenBatch,
  { scale = 1, sums, onReady, ...compute }: GradientOptions,
): LossAndGradients {
  const parameters = [...variables];
  const routings: Tensor1D[] = [];
  const routed = {
    lossWeight: scale * scoredTokens(batch),
    onRouting: (routing: Tensor1D) => void routings.push(keep(routing)),
  };
  const { value, gradients: all } = valueAndGradients(
    () => mul(sum(tokenLosses(decoder, batch, { ...compute, ...routed })), scale) as Scalar,
    parameters.map(([, one]) => one),
    parameters.map(([name]) => sums?.get(name)),
    onReady && ((i, gradient) => onReady(parameters[i]![0], gradient)),
  );
  const gradients = new Map(parameters.map(([name, one], i) => [name, all[i] ?? zerosLike(one)]));
  if (routings.length === 0) return { loss: value, gradients };
  const routing = tidy(() => concat(routings).reshape([routings.length, -1]) as Tensor2D);
  dispose(routings);
  return { loss: value, gradients, routing };
}
