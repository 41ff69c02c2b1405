/** A model's parameters by Hugging Face's names: their shapes, their number, their first values, and memory estimates. */
import { totalmem } from 'node:os';
import type { LlamaConfig } from './config.js';
import type { Recompute } from './model.js';

/** Names and shapes of all parameters, in the order of the layers; weights are [out, in]. */
export function parameterShapes(config: LlamaConfig): Map<string, number[]> {
  const { hiddenSize, intermediateSize, vocabSize, numHeads, numKvHeads, headDim, attention } = config;
  const shapes = new Map<string, number[]>([['model.embed_tokens.weight', [vocabSize, hiddenSize]]]);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const set = (name: string, shape: number[]) => shapes.set(`model.layers.${layer}.${name}`, shape);
    set('input_layernorm.weight', [hiddenSize]);
    set('self_attn.q_proj.weight', [numHeads * headDim, hiddenSize]);
    set('self_attn.k_proj.weight', [numKvHeads * headDim, hiddenSize]);
    set('self_attn.v_proj.weight', [numKvHeads * headDim, hiddenSize]);
    set('self_attn.o_proj.weight', [hiddenSize, numHeads * headDim]);
    if (attention.kind === 'stick-breaking') {
      if (attention.remainderBias) set('self_attn.remainder_bias', [numHeads, headDim]);
      if (attention.headNorm) {
        set('self_attn.head_norm.weight', [numHeads, headDim]);
        set('self_attn.head_norm.bias', [numHeads, headDim]);
      }
    } else if (attention.position.kind === 'fire') {
      const { width } = attention.position;
      set('self_attn.fire.w1.weight', [width, 1]);
      set('self_attn.fire.w1.bias', [width]);
      set('self_attn.fire.w2.weight', [numHeads, width]);
      set('self_attn.fire.w2.bias', [numHeads]);
      set('self_attn.fire.c', [1]);
      set('self_attn.fire.threshold_multiplier', [1]);
    }
    set('post_attention_layernorm.weight', [hiddenSize]);
    set('mlp.gate_proj.weight', [intermediateSize, hiddenSize]);
    set('mlp.up_proj.weight', [intermediateSize, hiddenSize]);
    set('mlp.down_proj.weight', [hiddenSize, intermediateSize]);
  }
  shapes.set('model.norm.weight', [hiddenSize]);
  if (!config.tieEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize]);
  return shapes;
}

/** The number of parameters; allocates none of them. */
export function countParameters(config: LlamaConfig): number {
  let total = 0;
  for (const shape of parameterShapes(config).values()) total += shape.reduce((product, size) => product * size, 1);
  return total;
}

/**
 * Bytes that a model needs, estimated. Training: weights, gradients and AdamW's two moments in float32, and for every
 * token of a micro-batch the tensors that each layer saves for its backward, with the gradients of about half a layer
 * beside them (1.2: as measured). Inference: the weights and one layer's tensors for every token.
 *
 * @param bfloat16 activations are kept in two bytes, and weights as a copy in two bytes too
 */
export function estimateMemory(
  config: LlamaConfig,
  {
    tokens,
    training,
    bfloat16 = false,
    recompute = 'none',
  }: { tokens: number; training: boolean; bfloat16?: boolean; recompute?: Recompute },
): number {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, numLayers, vocabSize } = config;
  const attention = 3 * hiddenSize + 3 * numHeads * headDim + 4 * numKvHeads * headDim;
  const feedForward = 3 * hiddenSize + 3 * intermediateSize;
  const layer = attention + feedForward;
  // What is computed again is there for one layer at a time; the others keep its input.
  const kept = { none: layer, attention: hiddenSize + feedForward, block: hiddenSize }[recompute];
  const again = recompute === 'none' ? 0.5 * layer : 1.5 * layer;
  const activations = training ? 1.2 * (kept * numLayers + again) * tokens : (layer + 2 * hiddenSize) * tokens;
  const logits = Math.min(tokens * vocabSize, 2 * 2 ** 22);
  const weightBytes = (training ? 16 : 4) + (bfloat16 ? 2 : 0);
  return Math.round(weightBytes * countParameters(config) + (bfloat16 ? 2 : 4) * activations + 4 * logits);
}

/** Bytes of memory that this process may take: the machine's, or a container's limit where that is less. */
export function hostMemory(): number {
  const limit = process.constrainedMemory(); // 0 or beyond all bounds where there is none
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** First values of one parameter, the same for the same seed and name on every machine. */
export function initialValues(name: string, shape: readonly number[], config: LlamaConfig, seed: number): Float32Array {
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  const random = generator(seed, name);
  if (/norm\.weight$/.test(name) || name.endsWith('threshold_multiplier')) return values.fill(1);
  if (name.endsWith('.fire.c')) return values.fill(0.1);
  if (name.includes('.fire.w')) {
    // torch's default for a linear layer: uniform within 1/√inputs.
    const bound = name.includes('.w1.')
      ? 1
      : 1 / Math.sqrt((config.attention as { position: { width: number } }).position.width);
    return values.map(() => (2 * random() - 1) * bound);
  }
  if (name.endsWith('bias')) return values;
  for (let i = 0; i < values.length; i += 2) {
    // Box and Muller: two normal numbers of two uniform ones.
    const radius = config.initializerRange * Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}

/** Uniform numbers in [0, 1) from a seed and a name: the generator sfc32, seeded with FNV-1a of both. */
export function generator(seed: number, name = ''): () => number {
  let hash = 0x811c9dc5;
  for (const character of `${seed}/${name}`) hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
  let [a, b, c, d] = [hash | 0, seed | 0, ~hash | 0, 1];
  const next = () => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 16; i++) next();
  return next;
}
