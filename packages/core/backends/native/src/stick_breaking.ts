/** Stick-breaking attention on the C++ library. `saved` tells the backward where each block of queries stopped. */

import { type NativeKernels, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';
import { packedArguments, packedParameters } from './packed.js';

export const stickBreakingKernels = {
  StickBreakingAttention({ q, k, v }, attrs, { read, make, allocate }) {
    const [rows, heads] = q.shape as [number, number, number];
    const blocks = new Int32Array(1);
    const countBlocks = nativeFunction('void sb_query_blocks(int64_t documents, void *cuSeqlens, void *blocks)');
    countBlocks(attrs.cuSeqlens.length - 1, attrs.cuSeqlens, blocks);
    const output = allocate(sizeOf(q));
    const remainder = allocate(rows * heads);
    const stops = new Int32Array(blocks[0]! * heads);
    const run = nativeFunction(
      `void sb_stick_breaking(${packedParameters}, int32_t attendCurrent, void *q, void *k, void *v, void *output, void *remainder, void *stops)`,
    );
    run(
      ...packedArguments(q, k, attrs),
      ...[attrs.attendCurrent ? 1 : 0, read(q), read(k), read(v), output, remainder, stops],
    );
    return [
      make(q.shape, 'float32', output),
      make([rows, heads], 'float32', remainder),
      make([blocks[0]!, heads], 'int32', stops),
    ];
  },

  StickBreakingAttentionGrad(
    { q, k, v, remainder, saved, dOutput, dRemainder },
    attrs,
    { read, make, allocate, zeros },
  ) {
    const dq = allocate(sizeOf(q));
    const [dk, dv] = [zeros(sizeOf(k)), zeros(sizeOf(v))];
    const run = nativeFunction(
      `void sb_stick_breaking_grad(${packedParameters}, int32_t attendCurrent, void *q, void *k, void *v, void *remainder, void *stops, void *dOutput, void *dRemainder, void *dq, void *dk, void *dv)`,
    );
    run(
      ...packedArguments(q, k, attrs),
      ...[attrs.attendCurrent ? 1 : 0, read(q), read(k), read(v), read(remainder), read(saved)],
      ...[read(dOutput), read(dRemainder), dq, dk, dv],
    );
    return [make(q.shape, 'float32', dq), make(k.shape, 'float32', dk), make(v.shape, 'float32', dv)];
  },
} satisfies NativeKernels;
