/** Stick-breaking attention on the C++ library. `saved` tells the backward where each block of queries stopped. */

import type { KernelInputs, PackedAttributes, StickBreakingAttributes } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { type KernelTools, type NativeKernels, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';
import { packedArguments, packedParameters } from './packed.js';

/** @param stick where keys are farther than others before, what these have left */
function forward(
  { q, k, v }: KernelInputs<'StickBreakingAttention'>,
  attrs: StickBreakingAttributes,
  { read, make, allocate }: KernelTools,
  stick?: TensorInfo,
): [TensorInfo, TensorInfo, TensorInfo] {
  const [rows, heads] = q.shape as [number, number, number];
  const blocks = new Int32Array(1);
  const countBlocks = nativeFunction('void sb_query_blocks(int64_t documents, void *cuSeqlens, void *blocks)');
  countBlocks(attrs.cuSeqlens.length - 1, attrs.cuSeqlens, blocks);
  const output = allocate(sizeOf(q));
  const remainder = allocate(rows * heads);
  const stops = new Int32Array(blocks[0]! * heads);
  const run = nativeFunction(
    `void sb_stick_breaking(${packedParameters}, int32_t attendCurrent, void *q, void *k, void *v, void *sticks, void *output, void *remainder, void *stops)`,
  );
  run(
    ...packedArguments(q, k, attrs),
    ...[attrs.attendCurrent ? 1 : 0, read(q), read(k), read(v), stick ? read(stick) : null],
    ...[output, remainder, stops],
  );
  return [
    make(q.shape, 'float32', output),
    make([rows, heads], 'float32', remainder),
    make([blocks[0]!, heads], 'int32', stops),
  ];
}

/** @param nearer where to the sums go in which these keys are too */
function backward(
  { q, k, v, saved, dOutput }: KernelInputs<'StickBreakingAttention'> & { saved: TensorInfo; dOutput: TensorInfo },
  attrs: StickBreakingAttributes,
  { read, make, allocate, zeros }: KernelTools,
  farther: Float32Array,
  stick?: TensorInfo,
  nearer?: Float32Array,
): [TensorInfo, TensorInfo, TensorInfo] {
  const dq = allocate(sizeOf(q));
  const [dk, dv] = [zeros(sizeOf(k)), zeros(sizeOf(v))];
  const run = nativeFunction(
    `void sb_stick_breaking_grad(${packedParameters}, int32_t attendCurrent, void *q, void *k, void *v, void *sticks, void *farther, void *stops, void *dOutput, void *dq, void *dk, void *dv, void *nearer)`,
  );
  run(
    ...packedArguments(q, k, attrs),
    ...[attrs.attendCurrent ? 1 : 0, read(q), read(k), read(v), stick ? read(stick) : null, farther],
    ...[read(saved), read(dOutput), dq, dk, dv, nearer ?? null],
  );
  return [make(q.shape, 'float32', dq), make(k.shape, 'float32', dk), make(v.shape, 'float32', dv)];
}

/** Of calls whose queries come behind all of their keys. */
const far = (attrs: PackedAttributes): StickBreakingAttributes => ({ ...attrs, attendCurrent: false });

export const stickBreakingKernels = {
  StickBreakingAttention: (inputs, attrs, tools) => forward(inputs, attrs, tools),

  StickBreakingAttentionGrad(inputs, attrs, tools) {
    const [remainder, dRemainder] = [tools.read(inputs.remainder), tools.read(inputs.dRemainder)];
    const farther = Float32Array.from(remainder, (left, i) => left * dRemainder[i]!);
    return backward(inputs, attrs, tools, farther);
  },

  StickBreakingFarther: ({ stick, ...inputs }, attrs, tools) => forward(inputs, far(attrs), tools, stick),

  StickBreakingFartherGrad({ stick, farther, ...inputs }, attrs, tools) {
    const sums = tools.allocate(sizeOf(farther));
    const gradients = backward(inputs, far(attrs), tools, tools.read(farther) as Float32Array, stick, sums);
    return [...gradients, tools.make(farther.shape, 'float32', sums)];
  },
} satisfies NativeKernels;
