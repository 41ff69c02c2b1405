/**
 * The tensors of a checkpoint as a model takes them: all that it needs, each in its shape, and nothing else. Some checkpoints,
 * Phi-3's, hold in one tensor what a LLaMA has in several: each part gets LLaMA's name.
 */
import { UserError } from '@stickbreaking/base';
import type { LlamaConfig } from './config.js';
import { parameterShapes } from './parameters.js';

/** A tensor of a checkpoint. */
export interface StoredTensor {
  /** The file that it is in. */
  path: string;
  /** Its name there. */
  stored: string;
  shape: readonly number[];
  /** The first of its numbers and the one after its last, where it is a part of what is stored. */
  part?: readonly [from: number, to: number];
  /** Its numbers, in float32. */
  read(): Float32Array;
}

/** By the end of a fused tensor's name: the ends of its parts' names, each with its rows, from the first on. */
const partsOf = ({ numHeads, numKvHeads, headDim, intermediateSize = 0 }: LlamaConfig) => ({
  'self_attn.qkv_proj.weight': [
    ['self_attn.q_proj.weight', numHeads * headDim],
    ['self_attn.k_proj.weight', numKvHeads * headDim],
    ['self_attn.v_proj.weight', numKvHeads * headDim],
  ] as const,
  'mlp.gate_up_proj.weight': [
    ['mlp.gate_proj.weight', intermediateSize],
    ['mlp.up_proj.weight', intermediateSize],
  ] as const,
});

/** All tensors, with the parts in place of those that are fused; one whose rows are not those of its parts stays. */
function splitFused(
  tensors: ReadonlyMap<string, StoredTensor>,
  config: LlamaConfig,
): ReadonlyMap<string, StoredTensor> {
  const all = new Map<string, StoredTensor>();
  const fused = Object.entries(partsOf(config));
  for (const [name, tensor] of tensors) {
    const [end, parts] = fused.find(([end]) => name.endsWith(`.${end}`)) ?? [];
    const [rows, columns] = tensor.shape;
    if (!end || !parts || parts.reduce((sum, [, own]) => sum + own, 0) !== rows || columns === undefined) {
      all.set(name, tensor);
      continue;
    }
    let begin = 0;
    for (const [own, count] of parts) {
      const [from, to] = [begin * columns, (begin + count) * columns];
      all.set(name.slice(0, -end.length) + own, {
        path: tensor.path,
        stored: tensor.stored,
        shape: [count, columns],
        part: [from, to],
        read: () => tensor.read().slice(from, to),
      });
      begin += count;
    }
  }
  return all;
}

/**
 * @param place what a message says the weights are in
 * @throws UserError if they are not those that the configuration calls for
 */
export function modelTensors(
  stored: ReadonlyMap<string, StoredTensor>,
  config: LlamaConfig,
  place: string,
): ReadonlyMap<string, StoredTensor> {
  const tensors = splitFused(stored, config);
  const expected = parameterShapes(config);
  for (const [name, shape] of expected) {
    const found = tensors.get(name);
    if (!found) throw new UserError(`${place}: the weights have no '${name}', which config.json calls for.`);
    const actual = found.shape;
    if (actual.join() !== shape.join()) {
      throw new UserError(
        `${found.path}: '${name}' has shape [${actual.join(', ')}]; config.json calls for [${shape.join(', ')}].`,
      );
    }
  }
  // transformers writes the head of a tied model in some versions, and buffers of rotary frequencies in old ones.
  const ignored = (name: string) =>
    (config.tieEmbeddings && name === 'lm_head.weight') || name.endsWith('rotary_emb.inv_freq');
  for (const [name, { path }] of tensors) {
    if (!expected.has(name) && !ignored(name)) {
      throw new UserError(`${path}: tensor '${name}' has no place in the model that config.json describes.`);
    }
  }
  return tensors;
}
