/** RMSNorm with and without the residual connection before it, SwiGLU and embedding lookup, on the C++ library. */

import { UserError } from '@stickbreaking/base';
import { type NativeKernels, sizeOf } from './backend.js';
import { accumulate } from './elementwise.js';
import { nativeFunction } from './library.js';

const signatures = {
  norm: 'void sb_rms_norm(int64_t rows, int64_t width, float epsilon, void *x, void *branch, float multiplier, void *weight, void *sum, void *y, void *inverse)',
  normGrad:
    'void sb_rms_norm_grad(int64_t rows, int64_t width, void *x, void *weight, void *inverse, void *dy, void *dSum, float multiplier, void *dx, void *dBranch, void *dWeight)',
};

export const layerKernels = {
  RMSNorm({ x, weight }, attrs, { read, make, allocate }) {
    const [rows, width] = x.shape as [number, number];
    const [y, inverseRms] = [allocate(rows * width), allocate(rows)];
    const run = nativeFunction(signatures.norm);
    run(rows, width, attrs.epsilon, read(x), null, 1, read(weight), null, y, inverseRms);
    return [make(x.shape, 'float32', y), make([rows], 'float32', inverseRms)];
  },

  RMSNormGrad({ x, weight, inverseRms, dy }, _attrs, { read, make, allocate }) {
    const [rows, width] = x.shape as [number, number];
    const [dx, dWeight] = [allocate(rows * width), allocate(width)];
    const run = nativeFunction(signatures.normGrad);
    run(rows, width, read(x), read(weight), read(inverseRms), read(dy), null, 1, dx, null, dWeight);
    return [make(x.shape, 'float32', dx), make([width], 'float32', dWeight)];
  },

  Residual({ x, branch }, attrs, { read, make, allocate }) {
    const y = allocate(sizeOf(x));
    const run = nativeFunction('void sb_residual(int64_t count, float multiplier, void *x, void *branch, void *y)');
    run(y.length, attrs.multiplier, read(x), read(branch), y);
    return [make(x.shape, 'float32', y)];
  },

  ResidualRMSNorm({ x, branch, weight }, { epsilon, multiplier }, { read, make, allocate }) {
    const [rows, width] = x.shape as [number, number];
    const [sum, y, inverseRms] = [allocate(rows * width), allocate(rows * width), allocate(rows)];
    const run = nativeFunction(signatures.norm);
    run(rows, width, epsilon, read(x), read(branch), multiplier, read(weight), sum, y, inverseRms);
    return [make(x.shape, 'float32', sum), make(x.shape, 'float32', y), make([rows], 'float32', inverseRms)];
  },

  ResidualRMSNormGrad({ sum, weight, inverseRms, dSum, dy }, { multiplier }, { read, make, allocate }) {
    const [rows, width] = sum.shape as [number, number];
    const [dx, dWeight] = [allocate(rows * width), allocate(width)];
    const dBranch = multiplier === 1 ? undefined : allocate(rows * width);
    const run = nativeFunction(signatures.normGrad);
    run(
      ...[rows, width, read(sum), read(weight), read(inverseRms), read(dy), read(dSum), multiplier],
      ...[dx, dBranch ?? null, dWeight],
    );
    const [first, second] = [make(sum.shape, 'float32', dx), make([width], 'float32', dWeight)];
    return dBranch ? [first, second, make(sum.shape, 'float32', dBranch)] : [first, second];
  },

  SwiGLU({ gate, up }, _attrs, { read, make, allocate }) {
    const y = allocate(sizeOf(gate));
    nativeFunction('void sb_swiglu(int64_t count, void *gate, void *up, void *y)')(y.length, read(gate), read(up), y);
    return [make(gate.shape, 'float32', y)];
  },

  SwiGLUGrad({ gate, up, dy }, _attrs, { read, make, allocate }) {
    const dGate = allocate(sizeOf(gate));
    const dUp = allocate(dGate.length);
    const run = nativeFunction(
      'void sb_swiglu_grad(int64_t count, void *gate, void *up, void *dy, void *dGate, void *dUp)',
    );
    run(dGate.length, read(gate), read(up), read(dy), dGate, dUp);
    return [make(gate.shape, 'float32', dGate), make(gate.shape, 'float32', dUp)];
  },

  Embedding({ tokens, weight }, _attrs, { read, make, allocate }) {
    const [vocabSize, width] = weight.shape as [number, number];
    const ids = read(tokens) as Int32Array;
    checkIds(ids, vocabSize);
    const y = allocate(ids.length * width);
    const run = nativeFunction('void sb_embedding(int64_t rows, int64_t width, void *tokens, void *weight, void *y)');
    run(ids.length, width, ids, read(weight), y);
    return [make([ids.length, width], 'float32', y)];
  },

  EmbeddingGrad({ tokens, dy, sum }, { vocabSize }, { read, make, zeros }) {
    const width = dy.shape[1]!;
    const ids = read(tokens) as Int32Array;
    checkIds(ids, vocabSize);
    const dWeight = zeros(vocabSize * width);
    const run = nativeFunction(
      'void sb_embedding_grad(int64_t rows, int64_t width, void *tokens, void *dy, void *dWeight)',
    );
    run(ids.length, width, ids, read(dy), dWeight);
    if (sum) accumulate(read(sum), dWeight);
    return [make([vocabSize, width], 'float32', dWeight)];
  },
} satisfies NativeKernels;

/** C++ checks no bounds, so an id outside the vocabulary must not reach it. */
export function checkIds(ids: Int32Array, vocabSize: number, ignoreIndex?: number): void {
  for (const id of ids) {
    if ((id < 0 || id >= vocabSize) && id !== ignoreIndex) {
      throw new UserError(`Token ${id} is outside the vocabulary of ${vocabSize}.`);
    }
  }
}
