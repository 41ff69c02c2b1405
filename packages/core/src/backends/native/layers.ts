/** RMSNorm, SwiGLU and embedding rows on the C++ library. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { UserError } from '../../errors.js';
import { defineKernel, sizeOf } from './backend.js';
import { nativeFunction } from './library.js';

type Inputs<Names extends string> = Record<Names, TensorInfo>;

defineKernel('RMSNorm', (inputs, attrs, { read, make, allocate }) => {
  const { x, weight } = inputs as Inputs<'x' | 'weight'>;
  const [rows, width] = x.shape as [number, number];
  const y = allocate(rows * width);
  const inverseRms = allocate(rows);
  const run = nativeFunction(
    'void sb_rms_norm(int64_t rows, int64_t width, float epsilon, void *x, void *weight, void *y, void *inverse)',
  );
  run(rows, width, attrs.epsilon as number, read(x), read(weight), y, inverseRms);
  return [make(x.shape, 'float32', y), make([rows], 'float32', inverseRms)];
});

defineKernel('RMSNormGrad', (inputs, _attrs, { read, make, allocate }) => {
  const { x, weight, inverseRms, dy } = inputs as Inputs<'x' | 'weight' | 'inverseRms' | 'dy'>;
  const [rows, width] = x.shape as [number, number];
  const dx = allocate(rows * width);
  const dWeight = allocate(width);
  const run = nativeFunction(
    'void sb_rms_norm_grad(int64_t rows, int64_t width, void *x, void *weight, void *inverse, void *dy, void *dx, void *dWeight)',
  );
  run(rows, width, read(x), read(weight), read(inverseRms), read(dy), dx, dWeight);
  return [make(x.shape, 'float32', dx), make([width], 'float32', dWeight)];
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
