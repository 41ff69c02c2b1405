/** Decoding by the kernels for whole documents: the cached keys are put end to end, and each document has one query. */
import { gather, type Tensor, tensor1d, tidy, zeros } from '@tensorflow/tfjs-core';
import type { DecodeAttributes, ReferenceKernel } from '../kernels.js';
import { activeKernel } from './active_kernel.js';

export const decodeAttention: ReferenceKernel<'DecodeAttention'> = (inputs, attrs) => {
  const { keyPages, valuePages } = inputs;
  const { lengths, scale, attention } = attrs;
  const [rows, heads, headDim] = inputs.q.shape as [number, number, number];
  const [, kvHeads, pageTokens] = keyPages.shape as [number, number, number, number];
  const used = [...lengths.keys()].filter((row) => lengths[row]! > 0);
  const none = [zeros([rows, heads, headDim]), zeros([rows, heads]), zeros([rows, kvHeads], 'int32')] as const;
  if (used.length === 0) return [...none];
  const own = (x: Tensor) => gather(x, tensor1d(used, 'int32'));
  const { q, k } = turned(own(inputs.q), own(inputs.k), used, attrs);
  const slots = used.map((row) => slotsOf(row, attrs, pageTokens));
  const newSlots = { slots: Int32Array.from(slots, (all) => all.at(-1)!) };
  activeKernel('WritePages', { k, v: own(inputs.v), keyPages, valuePages }, newSlots);
  const all = { slots: Int32Array.from(slots.flat()) };
  const packed = {
    cuSeqlens: Int32Array.from({ length: used.length + 1 }, (_, i) => i),
    cuSeqlensK: boundaries(slots.map((some) => some.length)),
    scale,
  };
  const read = (pages: Tensor) => activeKernel('ReadPages', { pages }, all)[0];
  const qkv = { q, k: read(keyPages), v: read(valuePages) };
  const [output, remainder] = tidy(() => {
    if (attention.kind === 'stick-breaking') {
      return activeKernel('StickBreakingAttention', qkv, { ...packed, attendCurrent: attention.attendCurrent }).slice(
        0,
        2,
      );
    }
    const { window, alibiSlopes } = attention;
    const bias = alibiSlopes ? ({ bias: 'alibi', alibiSlopes } as const) : ({ bias: 'none' } as const);
    return [activeKernel('SoftmaxAttention', qkv, { ...packed, window, ...bias })[0], zeros([used.length, heads])];
  });
  // Rows without a document get zeros: the one row behind those that there are.
  const place = Int32Array.from({ length: rows }, (_, row) => (used.includes(row) ? used.indexOf(row) : used.length));
  const spread = (x: Tensor) =>
    used.length === rows ? x : gather(x.concat(zeros([1, ...x.shape.slice(1)])), tensor1d(place, 'int32'));
  const keysRead = Int32Array.from({ length: rows * kvHeads }, (_, i) => lengths[Math.floor(i / kvHeads)]!);
  return [spread(output!), spread(remainder!), tensor1d(keysRead, 'int32').reshape([rows, kvHeads])];
};

/** Where the keys of a row's document lie, the new one last. */
function slotsOf(row: number, { lengths, table }: DecodeAttributes, pageTokens: number): number[] {
  const width = table.length / lengths.length;
  return Array.from(
    { length: lengths[row]! },
    (_, i) => table[row * width + Math.floor(i / pageTokens)]! * pageTokens + (i % pageTokens),
  );
}

function turned(q: Tensor, k: Tensor, used: readonly number[], { lengths, inverseFrequencies }: DecodeAttributes) {
  if (!inverseFrequencies) return { q, k };
  const cuSeqlens = Int32Array.from({ length: used.length + 1 }, (_, i) => i);
  const positions = { cuSeqlens, firstPositions: Int32Array.from(used, (row) => lengths[row]! - 1) };
  const [turnedQ, turnedK] = activeKernel(
    'RotaryEmbedding',
    { q, k },
    { queries: positions, keys: positions, inverseFrequencies, inverse: false },
  );
  return { q: turnedQ, k: turnedK };
}

function boundaries(lengths: readonly number[]): Int32Array {
  const result = new Int32Array(lengths.length + 1);
  for (const [i, length] of lengths.entries()) result[i + 1] = result[i]! + length;
  return result;
}
