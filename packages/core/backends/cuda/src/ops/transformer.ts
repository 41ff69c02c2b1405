/** The small ops of a transformer block beside its norms: SwiGLU, token embedding, remainder bias. */
import { util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { attachEight, canBeEight, rowShape } from '../fp8.js';
import { spread, warpBlocks } from '../grids.js';
import { THREADS, VECTOR } from '../kernel_interface.js';
import { i32, i64, pointer } from '../launch.js';
import { areBeside, makeBeside, makeMatrix, matrixOf, operandOf } from '../matrix.js';
import type { Matrix } from '../rows.js';
import { type Eight, TYPE_CODE } from '../storage.js';
import { byToken } from './by_token.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { fill } from './elementwise.js';
import { writableSum } from './matmul.js';
import { sumPartials } from './reduce.js';
import { embeddingFp24, FP24_FILE, isFp24, wide } from './residual_fp24.js';
import { MOST_ROWS } from './rowwise.js';

/** Parts into which a sum over tokens is split before the fixed-order addition. */
const PARTS = 128;

const swiGlu: CudaKernel<'SwiGLU'> = ({ gate, up }, { readBy }, backend) => {
  const [count, columns] = gate.shape as [number, number];
  const inputs = [operandOf(backend, gate), operandOf(backend, up)];
  const width = widthOf(inputs, columns);
  const y = makeMatrix(backend, [count, columns], 'bf16', { rows: count, columns: width });
  const output = matrixOf(backend, y);
  if (readBy === 'fp8' && count > 0 && [...inputs, output].every(canBeEight))
    launchGateEight('swiglu_fp8', backend, count, width, [output], inputs, attachEight(backend, y, count, width));
  else launchGate('swiglu', backend, count, width, [output], inputs);
  return [y];
};

const swiGluGrad: CudaKernel<'SwiGLUGrad'> = ({ gate, up, dy }, { readBy }, backend) => {
  const [count, columns] = gate.shape as [number, number];
  const inputs = [operandOf(backend, gate), operandOf(backend, up), operandOf(backend, dy)];
  const width = widthOf(inputs, columns);
  const beside = areBeside(backend, [gate, up]) && width === inputs[0]!.columns;
  const [dGate, dUp] = beside
    ? makeBeside(
        backend,
        count,
        [gate, up].map(({ shape }) => ({ shape, columns, width })),
      )
    : [0, 1].map(() => makeMatrix(backend, [count, columns], 'bf16', { rows: count, columns: width }));
  const outputs = [matrixOf(backend, dGate!), matrixOf(backend, dUp!)];
  // One row has both, as the matmul over both reads it.
  if (
    readBy === 'fp8' &&
    beside &&
    count > 0 &&
    [...inputs, { ...outputs[0]!, columns: 2 * width }].every(canBeEight)
  ) {
    const eight = attachEight(backend, dGate!, count, 2 * width);
    launchGateEight('swiglu_grad_fp8', backend, count, width, outputs, inputs, eight);
  } else launchGate('swiglu_grad', backend, count, width, outputs, inputs);
  return [dGate!, dUp!];
};

/** Columns that all of them have in memory. */
function widthOf(matrices: readonly Matrix[], columns: number): number {
  return matrices.every((one) => one.columns === matrices[0]!.columns) ? matrices[0]!.columns : columns;
}

/** swiglu or swiglu_grad over `width` columns of every row; the outputs have one stride. */
function launchGate(
  name: 'swiglu' | 'swiglu_grad',
  backend: CudaBackend,
  count: number,
  width: number,
  outputs: readonly Matrix[],
  inputs: readonly Matrix[],
): void {
  if (count * width === 0) return;
  // Rows that follow one another are worked as one.
  const whole = [...outputs, ...inputs].every(({ stride }) => stride === width);
  const [rows, columns] = whole ? [1, count * width] : [count, width];
  const grid = [Math.ceil((rows * Math.ceil(columns / VECTOR)) / THREADS)] as const;
  const early = name === 'swiglu' && count <= MOST_ROWS;
  backend.launch('transformer.cu', name, { grid, block: THREADS, early }, [
    ...outputs.map(({ address }) => pointer(address)),
    i64(outputs[0]!.stride),
    ...inputs.flatMap(({ address, stride }) => [pointer(address), i64(stride)]),
    i64(rows),
    i64(columns),
  ]);
}

/** The same with rows in eight bits beside the result: a block has a row, and takes its columns and those that fill it up. */
function launchGateEight(
  name: 'swiglu_fp8' | 'swiglu_grad_fp8',
  backend: CudaBackend,
  count: number,
  width: number,
  outputs: readonly Matrix[],
  inputs: readonly Matrix[],
  eight: Eight,
): void {
  const { threads, groups } = rowShape(Math.max(width, eight.width / outputs.length))!;
  backend.launch('fp8.cu', `${name}_${groups}`, { grid: [count], block: threads }, [
    ...outputs.map(({ address }) => pointer(address)),
    i64(outputs[0]!.stride),
    ...[pointer(eight.address), pointer(eight.scales)],
    ...inputs.flatMap(({ address, stride }) => [pointer(address), i64(stride)]),
    ...[i32(width), i32(eight.width)],
  ]);
}

const embedding: CudaKernel<'Embedding'> = ({ tokens, weight }, { residualType }, backend) => {
  if (residualType === 'fp24') return [embeddingFp24(backend, { tokens, weight })];
  const columns = weight.shape[1]!;
  const n = util.sizeFromShape(tokens.shape);
  const y = backend.make([...tokens.shape, columns], 'bf16');
  const { address, stride } = matrixOf(backend, weight);
  backend.launch('transformer.cu', 'embedding', { grid: [n], block: THREADS }, [
    pointer(backend.address(y)),
    pointer(backend.address(tokens)),
    pointer(address),
    i32(TYPE_CODE[backend.stored(weight).type]),
    i64(stride),
    i32(columns),
  ]);
  return [y];
};

const embeddingGrad: CudaKernel<'EmbeddingGrad'> = ({ tokens, dy, sum }, { vocabSize }, backend) => {
  const columns = dy.shape[dy.shape.length - 1]!;
  const dWeight = sum ? writableSum(backend, sum) : fill(backend, [vocabSize, columns], 'f32', 0);
  if (tokens.shape[0] === 0) return [dWeight];
  const { token, start, order } = byToken(backend.readSync(tokens.dataId) as Int32Array, vocabSize);
  backend.withScratch((scratch) => {
    const lists = [token, start, order].map((list) => pointer(scratch.upload(list)));
    const file = isFp24(backend, dy) ? FP24_FILE : 'transformer.cu';
    const gradient = file === FP24_FILE ? wide(backend, dy) : [pointer(backend.bf16(dy))];
    const args = [pointer(backend.address(dWeight)), ...gradient, ...lists, i32(columns)];
    backend.launch(file, 'embedding_grad', { grid: [token.length], block: THREADS }, args);
  });
  return [dWeight];
};

const remainderBias: CudaKernel<'RemainderBias'> = ({ output, remainder, bias }, _attrs, backend) => {
  const [, heads, dim] = output.shape as [number, number, number];
  const n = util.sizeFromShape(output.shape);
  const y = backend.make(output.shape, 'bf16');
  backend.withScratch((scratch) => {
    const args = [pointer(backend.address(y)), pointer(backend.bf16(output))];
    const floats = [remainder, bias].map((one) => pointer(backend.f32(one, scratch)));
    const all = [...args, ...floats, i64(n), i32(heads), i32(dim)];
    backend.launch('transformer.cu', 'remainder_bias', { grid: [spread(n)], block: THREADS }, all);
  });
  return [y];
};

const remainderBiasGrad: CudaKernel<'RemainderBiasGrad'> = (inputs, _attrs, backend) => {
  const { dy } = inputs;
  const [tokens, heads, dim] = dy.shape as [number, number, number];
  const columns = heads * dim;
  const [dRemainder, dBias] = [backend.make([tokens, heads], 'f32'), backend.make([heads, dim], 'f32')];
  backend.withScratch((scratch) => {
    const gradient = pointer(backend.bf16(dy));
    const bias = pointer(backend.f32(inputs.bias, scratch));
    const remainder = pointer(backend.f32(inputs.remainder, scratch));
    backend.launch('transformer.cu', 'remainder_bias_dr', { grid: [warpBlocks(tokens * heads)], block: THREADS }, [
      pointer(backend.address(dRemainder)),
      bias,
      gradient,
      i64(tokens * heads),
      i32(heads),
      i32(dim),
    ]);
    const partial = scratch.allocate(PARTS * columns * 4);
    backend.launch('transformer.cu', 'remainder_bias_db', { grid: [Math.ceil(columns / 128), PARTS], block: 128 }, [
      pointer(partial),
      remainder,
      gradient,
      i64(tokens),
      i32(heads),
      i32(dim),
    ]);
    sumPartials(backend, backend.address(dBias), partial, PARTS, columns);
  });
  return [dRemainder, dBias];
};

export const transformerKernels = {
  SwiGLU: swiGlu,
  SwiGLUGrad: swiGluGrad,
  Embedding: embedding,
  EmbeddingGrad: embeddingGrad,
  RemainderBias: remainderBias,
  RemainderBiasGrad: remainderBiasGrad,
} satisfies CudaKernels;
