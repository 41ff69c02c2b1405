/** Generation on the C++ library: pages of cached keys and values, and attention of single new tokens to them. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { type NativeKernels, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';
import { anglesOfPositions } from './rotary.js';

const pageParameters = 'int64_t rows, int64_t kvHeads, int64_t pageTokens, int64_t headDim, void *slots';

function pageArguments(pages: TensorInfo, slots: Int32Array) {
  const [, kvHeads, pageTokens, headDim] = pages.shape as [number, number, number, number];
  return [slots.length, kvHeads, pageTokens, headDim, slots];
}

export const decodeKernels = {
  GrowPages({ pages }, { count }, { read, make, allocate }) {
    const [, ...page] = pages.shape;
    const shape = [count, ...page];
    const larger = allocate(shape.reduce((a, b) => a * b));
    larger.set(read(pages));
    return [make(shape, 'float32', larger)];
  },

  WritePages({ k, v, keyPages, valuePages }, { slots }, { read }) {
    const write = nativeFunction(`void sb_write_pages(${pageParameters}, void *from, void *pages)`);
    write(...pageArguments(keyPages, slots), read(k), read(keyPages));
    write(...pageArguments(valuePages, slots), read(v), read(valuePages));
    return [];
  },

  ReadPages({ pages }, { slots }, { read, make, allocate }) {
    const [, kvHeads, , headDim] = pages.shape as [number, number, number, number];
    const rows = allocate(slots.length * kvHeads * headDim);
    const run = nativeFunction(`void sb_read_pages(${pageParameters}, void *pages, void *to)`);
    run(...pageArguments(pages, slots), read(pages), rows);
    return [make([slots.length, kvHeads, headDim], 'float32', rows)];
  },

  DecodeAttention({ q, k, v, keyPages, valuePages }, attrs, { read, make, allocate }) {
    const [rows, heads, headDim] = q.shape as [number, number, number];
    const [, kvHeads, pageTokens] = keyPages.shape as [number, number, number, number];
    const output = allocate(sizeOf(q));
    const remainder = allocate(rows * heads);
    const keysRead = new Int32Array(rows * kvHeads);
    const run = nativeFunction(
      'void sb_decode(int64_t rows, int64_t heads, int64_t kvHeads, int64_t headDim, int64_t pageTokens, int64_t tableWidth, void *lengths, void *table, float scale, int32_t stickBreaking, int32_t attendCurrent, int64_t window, void *slopes, void *cosines, void *sines, void *q, void *k, void *v, void *keyPages, void *valuePages, void *output, void *remainder, void *keysRead)',
    );
    const { lengths, table, scale, attention } = attrs;
    const stick = attention.kind === 'stick-breaking';
    const width = rows === 0 ? 0 : table.length / rows;
    const { inverseFrequencies } = attrs;
    const angles = inverseFrequencies && anglesOfPositions(width * pageTokens, inverseFrequencies);
    run(
      ...[rows, heads, kvHeads, headDim, pageTokens, width, lengths, table, scale],
      ...[stick ? 1 : 0, stick && attention.attendCurrent ? 1 : 0, stick ? 0 : attention.window],
      ...[stick ? null : (attention.alibiSlopes ?? null), angles?.cosines ?? null, angles?.sines ?? null],
      ...[read(q), read(k), read(v), read(keyPages), read(valuePages), output, remainder, keysRead],
    );
    return [
      make(q.shape, 'float32', output),
      make([rows, heads], 'float32', remainder),
      make([rows, kvHeads], 'int32', keysRead),
    ];
  },
} satisfies NativeKernels;
