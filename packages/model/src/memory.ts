/** How much memory a model needs. */
import type { LlamaConfig } from './config.js';
import { feedForwardOf } from './feed_forward/index.js';
import type { Recompute } from './layer.js';
import { countParameters } from './parameters.js';

/**
 * Estimated bytes that a model needs. Training: weights, gradients and AdamW's two moments in float32, and for every
 * token of a micro-batch the tensors that each layer saves for its backward, with the gradients of about half a layer
 * besides (the factor 1.2, as measured). Inference: the weights and one layer's tensors for every token. A GPU stores
 * other things: `estimateTrainingMemory`.
 */
export function estimateMemory(
  config: LlamaConfig,
  { tokens, training, recompute = 'none' }: { tokens: number; training: boolean; recompute?: Recompute },
): number {
  const { hiddenSize, numHeads, numKvHeads, headDim, numLayers, vocabSize } = config;
  const attention = 4 * hiddenSize + 3 * numHeads * headDim + 4 * numKvHeads * headDim;
  const { kind, setting } = feedForwardOf(config);
  const feedForward = kind.savedPerToken(setting, config);
  const layer = attention + feedForward;
  // What is recomputed exists for one layer at a time; the other layers keep only its input.
  const kept = { none: layer, attention: 2 * hiddenSize + feedForward, block: hiddenSize }[recompute];
  const again = recompute === 'none' ? 0.5 * layer : 1.5 * layer;
  const activations = training ? 1.2 * (kept * numLayers + again) * tokens : (layer + 2 * hiddenSize) * tokens;
  const logits = Math.min(tokens * vocabSize, 2 * 2 ** 22);
  return Math.round((training ? 16 : 4) * countParameters(config) + 4 * activations + 4 * logits);
}
