/** Weights that a checkpoint holds in one tensor where a LLaMA has several, as Phi-3 does: each part by LLaMA's name. */
import type { LlamaConfig } from './config.js';

/** A tensor of a checkpoint. */
export interface StoredTensor {
  /** The file that it is in. */
  path: string;
  shape: readonly number[];
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
export function splitFused(
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
        shape: [count, columns],
        read: () => tensor.read().slice(from, to),
      });
      begin += count;
    }
  }
  return all;
}
