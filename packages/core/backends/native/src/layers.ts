/** RMSNorm with and without the residual before it, SwiGLU and embedding rows on the C++ library. */

import { UserError } from '@stickbreaking/base';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { defineKernel, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';

type Inputs<Names extends string> = Record<Names, TensorInfo>;

const signatures = {
  norm: 'void sb_rms_norm(int64_t rows, int64_t width, float epsilon, void *x, void *branch, float multiplier, void *weight, void *sum, void *y, void *inverse)',
  normGrad:
    'void sb_rms_norm_grad(int64_t rows, int64_t width, void *x, void *weight, void *inverse, void *dy, void *dSum, float multiplier, void *dx, void *dBranch, void *dWeight)',
};

defineKernel('RMSNorm', (inputs, attrs, { read, make, allocate }) => {
  const { x, weight } = inputs as Inputs<'x' | 'weight'>;
  const [rows, width] = x.shape as [number, number];
  const [y, inverseRms] = [allocate(rows * width), allocate(rows)];
  const run = nativeFunction(signatures.norm);
  run(rows, width, attrs.epsilon as number, read(x), null, 1, read(weight), null, y, inverseRms);
  return [make(x.shape, 'float32', y), make([rows], 'float32', inverseRms)];
});

defineKernel('RMSNormGrad', (inputs, _attrs, { read, make, allocate }) => {
  const { x, weight, inverseRms, dy } = inputs as Inputs<'x' | 'weight' | 'inverseRms' | 'dy'>;
  const [rows, width] = x.shape as [number, number];
  const [dx, dWeight] = [allocate(rows * width), allocate(width)];
  const run = nativeFunction(signatures.normGrad);
  run(rows, width, read(x), read(weight), read(inverseRms), read(dy), null, 1, dx, null, dWeight);
  return [make(x.shape, 'float32', dx), make([width], 'float32', dWeight)];
});

defineKernel('Residual', (inputs, attrs, { read, make, allocate }) => {
  const { x, branch } = inputs as Inputs<'x' | 'branch'>;
  const y = allocate(sizeOf(x));
  const run = nativeFunction('void sb_residual(int64_t count, float multiplier, void *x, void *branch, void *y)');
  run(y.length, attrs.multiplier as number, read(x), read(branch), y);
  return [make(x.shape, 'float32', y)];
});

defineKernel('ResidualRMSNorm', (inputs, attrs, { read, make, allocate }) => {
  const { x, branch, weight } = inputs as Inputs<'x' | 'branch' | 'weight'>;
  const { epsilon, multiplier } = attrs as { epsilon: number; multiplier: number };
  const [rows, width] = x.shape as [number, number];
  const [sum, y, inverseRms] = [allocate(rows * width), allocate(rows * width), allocate(rows)];
  const run = nativeFunction(signatures.norm);
  run(rows, width, epsilon, read(x), read(branch), multiplier, read(weight), sum, y, inverseRms);
  return [make(x.shape, 'float32', sum), make(x.shape, 'float32', y), make([rows], 'float32', inverseRms)];
});

defineKernel('ResidualRMSNormGrad', (inputs, attrs, { read, make, allocate }) => {
  const { sum, weight, inverseRms, dSum, dy } = inputs as Inputs<'sum' | 'weight' | 'inverseRms' | 'dSum' | 'dy'>;
  const multiplier = attrs.multiplier as number;
  const [rows, width] = sum.shape as [number, number];
  const [dx, dWeight] = [allocate(rows * width), allocate(width)];
  const dBranch = multiplier === 1 ? undefined : allocate(rows * width);
  const run = nativeFunction(signatures.normGrad);
  run(
    ...[rows, width, read(sum), read(weight), read(inverseRms), read(dy), read(dSum), multiplier],
    ...[dx, dBranch ?? null, dWeight],
  );
  const gradients = [make(sum.shape, 'float32', dx), make([width], 'float32', dWeight)];
  return dBranch ? [...gradients, make(sum.shape, 'float32', dBranch)] : gradients;
});

defineKernel('SwiGLU', (inputs, _attrs, { read, make, allocate }) => {
  const { gate, up } = inputs as Inputs<'gate' | 'up'>;
  const y = allocate(sizeOf(gate));
  nativeFunction('void sb_swiglu(int64_t count, void *gate, void *up, void *y)')(y.length, read(gate), read(up), y);
  return [make(gate.shape, 'float32', y)];
});

defineKernel('SwiGLUGrad', (inputs, _attrs, { read, make, allocate }) => {
  const { gate, up, dy } = inputs as Inputs<'gate' | 'up' | 'dy'>;
  const dGate = allocate(sizeOf(gate));
  const dUp = allocate(dGate.length);
  const run = nativeFunction(
    'void sb_swiglu_grad(int64_t count, void *gate, void *up, void *dy, void *dGate, void *dUp)',
  );
  run(dGate.length, read(gate), read(up), read(dy), dGate, dUp);
  return [make(gate.shape, 'float32', dGate), make(gate.shape, 'float32', dUp)];
});

defineKernel('Embedding', (inputs, _attrs, { read, make, allocate }) => {
  const { tokens, weight } = inputs as Inputs<'tokens' | 'weight'>;
  const [vocabSize, width] = weight.shape as [number, number];
  const ids = read(tokens) as Int32Array;
  checkIds(ids, vocabSize);
  const y = allocate(ids.length * width);
  const run = nativeFunction('void sb_embedding(int64_t rows, int64_t width, void *tokens, void *weight, void *y)');
  run(ids.length, width, ids, read(weight), y);
  return [make([ids.length, width], 'float32', y)];
});

defineKernel('EmbeddingGrad', (inputs, attrs, { read, make, zeros }) => {
  const { tokens, dy } = inputs as Inputs<'tokens' | 'dy'>;
  const vocabSize = attrs.vocabSize as number;
  const width = dy.shape[1]!;
  const ids = read(tokens) as Int32Array;
  checkIds(ids, vocabSize);
  const dWeight = zeros(vocabSize * width);
  const run = nativeFunction(
    'void sb_embedding_grad(int64_t rows, int64_t width, void *tokens, void *dy, void *dWeight)',
  );
  run(ids.length, width, ids, read(dy), dWeight);
  return [make([vocabSize, width], 'float32', dWeight)];
});

/** C++ reads where it is told to: an id outside the vocabulary must not get there. */
export function checkIds(ids: Int32Array, vocabSize: number, ignoreIndex?: number): void {
  for (const id of ids) {
    if ((id < 0 || id >= vocabSize) && id !== ignoreIndex) {
      throw new UserError(`Token ${id} is outside the vocabulary of ${vocabSize}.`);
    }
  }
}
