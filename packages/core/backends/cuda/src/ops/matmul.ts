/**
 * Matmuls through cuBLASLt. Operands are read as bfloat16 (float32 tensors through their cached copy). The result is bfloat16, but
 * Aᵀ·B stays float32: that is the form of a weight's gradient, which sums over all tokens and is added up over
 * micro-batches, where sixteen bits would lose it. Sizes that cuBLASLt has no fast kernels for are rounded up (rows.ts). The
 * matmuls of one input are one over its weights laid out one below the other, forward and back; where they cannot be, each
 * adds to the result of the others.
 */
import { gradientsOf } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { checkServesEight } from '../fp8.js';
import { areBelow, areBeside, copiesBelow, makeBelow, makeBeside, makeMatrix, matrixOf, operandOf } from '../matrix.js';
import { type Matrix, reachedSizes, roundUp } from '../rows.js';
import { alias, type CudaKernel, type CudaKernels, type CudaTfjsKernel, type CudaTfjsKernels } from './define.js';
import { fillAt } from './elementwise.js';
import { linearsEight, linearsGradEight } from './matmul_fp8.js';
import { rowwise, servesRowwise } from './rowwise.js';

const batchMatMul: CudaTfjsKernel<'BatchMatMul'> = ({ a, b }, { transposeA, transposeB }, backend) => {
  const [ra, rb] = [a.shape.length, b.shape.length];
  if (ra === 2 && rb === 2) return multiply(backend, a, b, !!transposeA, !!transposeB);
  const [m, k] = transposeA ? [a.shape[ra - 1]!, a.shape[ra - 2]!] : [a.shape[ra - 2]!, a.shape[ra - 1]!];
  const n = transposeB ? b.shape[rb - 2]! : b.shape[rb - 1]!;
  const [batchA, batchB] = [util.sizeFromShape(a.shape.slice(0, -2)), util.sizeFromShape(b.shape.slice(0, -2))];
  if (batchA !== batchB && batchA !== 1 && batchB !== 1) return undefined;
  const batch = Math.max(batchA, batchB);
  const outer = batchA >= batchB && ra >= rb ? a.shape.slice(0, -2) : b.shape.slice(0, -2);
  const output = transposeA && !transposeB ? 'f32' : 'bf16';
  const y = backend.make([...outer, m, n], output);
  const size = m * n * batch;
  if (size === 0) return y;
  if (k === 0) {
    fillAt(backend, backend.address(y), output, 0, size);
    return y;
  }
  const product = { m, n, k, transposeA: !!transposeA, transposeB: !!transposeB, output } as const;
  const strides = { batch, strideA: batchA > 1 ? m * k : 0, strideB: batchB > 1 ? n * k : 0, strideC: m * n };
  backend.matmul(
    backend.bf16(a),
    backend.bf16(b),
    backend.address(y),
    batch > 1 ? { ...product, ...strides } : product,
  );
  return y;
};

/** op(a)·op(b) of two matrices. */
function multiply(
  backend: CudaBackend,
  a: TensorInfo,
  b: TensorInfo,
  transposeA: boolean,
  transposeB: boolean,
): TensorInfo {
  const [m, k] = transposeA ? [a.shape[1]!, a.shape[0]!] : [a.shape[0]!, a.shape[1]!];
  const n = transposeB ? b.shape[0]! : b.shape[1]!;
  const output = transposeA && !transposeB ? 'f32' : 'bf16';
  if (m * n * k === 0) {
    const y = backend.make([m, n], output);
    fillAt(backend, backend.address(y), output, 0, m * n);
    return y;
  }
  const [left, right] = [operandOf(backend, a), operandOf(backend, b)];
  const sizes = { m, n, k, transposeA, transposeB };
  const reached = reachedSizes(sizes, left, right);
  const y = makeMatrix(backend, [m, n], output, { rows: reached.m, columns: reached.n });
  backend.matmul(left.address, right.address, backend.stored(y).address, {
    ...{ ...sizes, ...reached, output },
    ...{ lda: left.stride, ldb: right.stride, ldc: reached.n },
  });
  return y;
}

/** x·weightᵀ. */
function project(backend: CudaBackend, x: TensorInfo, weight: TensorInfo): TensorInfo {
  const [rows, outs] = [x.shape[0]!, weight.shape[0]!];
  if (rows * outs * x.shape[1]! > 0) {
    const [input, right] = [operandOf(backend, x), operandOf(backend, weight)];
    if (servesRowwise(rows, input, right)) {
      const y = makeMatrix(backend, [rows, outs], 'bf16', { rows, columns: right.rows });
      rowwise(backend, { address: backend.stored(y).address, stride: right.rows }, input, right, rows, right.rows);
      return y;
    }
  }
  return multiply(backend, x, weight, false, true);
}

const linears: CudaKernel<'Linears'> = ([x, ...weights], { precision }, backend) => {
  if (precision === 'fp8') {
    checkServesEight(backend);
    const results = linearsEight(backend, x, weights);
    if (results) return results;
  }
  const [m, k] = x.shape as [number, number];
  const below = weights.length > 1 && m * k > 0 ? copiesBelow(backend, weights) : undefined;
  if (!below) return weights.map((weight) => project(backend, x, weight));
  const input = operandOf(backend, x);
  const parts = weights.map((weight) => {
    const columns = weight.shape[0]!;
    return { shape: [m, columns], columns, width: matrixOf(backend, weight).rows };
  });
  const results = makeBeside(backend, m, parts);
  if (servesRowwise(m, input, below)) {
    const { address } = backend.stored(results[0]!);
    rowwise(backend, { address, stride: below.rows }, input, below, m, below.rows);
    return results;
  }
  const sizes = { m, n: below.rows, k, transposeA: false, transposeB: true };
  backend.matmul(input.address, below.address, backend.stored(results[0]!).address, {
    ...{ ...sizes, k: reachedSizes(sizes, input, below).k, output: 'bf16' },
    ...{ lda: input.stride, ldb: below.stride, ldc: below.rows },
  });
  return results;
};

const linearsGrad: CudaKernel<'LinearsGrad'> = (tensors, { precision }, backend) => {
  const dys = tensors.filter((_, i) => i % 2 === 0);
  const weights = tensors.filter((_, i) => i % 2 === 1);
  const [m, n] = [dys[0]!.shape[0]!, weights[0]!.shape[1]!];
  const used = dys.flatMap((dy, i) => (weights[i]!.shape[0]! > 0 ? [{ dy, weight: weights[i]! }] : []));
  if (m * n === 0 || used.length === 0) {
    const dx = backend.make([m, n], 'bf16');
    fillAt(backend, backend.address(dx), 'bf16', 0, m * n);
    return [dx];
  }
  const copies = dys.length > 1 && areBeside(backend, dys) ? copiesBelow(backend, weights) : undefined;
  const below = copies && isAs(backend, weights, dys) ? copies : undefined;
  const eight = precision === 'fp8' ? linearsGradEight(backend, dys, weights, below) : undefined;
  if (eight) return [eight];
  const parts: [Matrix, Matrix, number][] = below
    ? [[operandOf(backend, dys[0]!), below, below.rows]]
    : used.map(({ dy, weight }) => [operandOf(backend, dy), operandOf(backend, weight), weight.shape[0]!]);
  const columns = parts.every(([, weight]) => weight.columns >= roundUp(n)) ? roundUp(n) : n;
  const dx = makeMatrix(backend, [m, n], 'bf16', { rows: m, columns });
  parts.forEach(([dy, weight, k], i) => {
    const sizes = { m, n, k, transposeA: false, transposeB: false };
    // Those side by side reach over all of their columns.
    const reached = k === weight.rows ? k : reachedSizes(sizes, dy, weight).k;
    backend.matmul(dy.address, weight.address, backend.stored(dx).address, {
      ...{ ...sizes, n: columns, k: reached, output: 'bf16', beta: i > 0 ? 1 : 0 },
      ...{ lda: dy.stride, ldb: weight.stride, ldc: columns },
    });
  });
  return [dx];
};

/** Whether each weight has as many rows in memory as the gradient beside it has columns. */
function isAs(backend: CudaBackend, weights: readonly TensorInfo[], dys: readonly TensorInfo[]): boolean {
  return weights.every((weight, i) => matrixOf(backend, weight).rows === backend.stored(dys[i]!).rows!.width);
}

/** In float32, like every gradient of a weight, but where it is placed to be sent to other processes in bfloat16. */
const weightGrads: CudaKernel<'WeightGrads'> = ({ x, ...others }, _attrs, backend) => {
  const parts = gradientsOf(others);
  return weightGradsAtOnce(backend, x, parts) ?? parts.map(({ dy, sum }) => weightGrad(backend, x, dy, sum));
};

function weightGrad(backend: CudaBackend, x: TensorInfo, dy: TensorInfo, sum?: TensorInfo): TensorInfo {
  if (!sum) return multiply(backend, dy, x, true, false);
  const [k, m] = dy.shape as [number, number];
  const n = x.shape[1]!;
  if (m * n * k === 0) return writableSum(backend, sum);
  const wasBlank = takeBlank(backend, [sum]);
  const y = writableSum(backend, sum, wasBlank);
  const [left, right, target] = [operandOf(backend, dy), operandOf(backend, x), matrixOf(backend, y)];
  const sizes = { m, n, k, transposeA: true, transposeB: false };
  const reached = reachedSizes(sizes, left, right, target);
  const isWhole = reached.m === target.rows && reached.n === target.stride;
  if (wasBlank && !isWhole) backend.writeZeros(backend.stored(y));
  backend.matmul(left.address, right.address, target.address, {
    ...{ ...sizes, ...reached, output: typeOf(backend, y), beta: wasBlank && isWhole ? 0 : 1 },
    ...{ lda: left.stride, ldb: right.stride, ldc: target.stride },
  });
  return y;
}

/** One matmul where the gradients lie side by side, into memory where the weights' lie one below the other. */
function weightGradsAtOnce(
  backend: CudaBackend,
  x: TensorInfo,
  parts: { dy: TensorInfo; sum?: TensorInfo }[],
): TensorInfo[] | undefined {
  const dys = parts.map(({ dy }) => dy);
  if (parts.length < 2 || !areBeside(backend, dys)) return undefined;
  const [k, n] = x.shape as [number, number];
  const right = operandOf(backend, x);
  const counts = dys.map((dy) => backend.stored(dy).rows!.width);
  const sums = parts.flatMap(({ sum }) => (sum ? [sum] : []));
  const columns = right.columns >= roundUp(n) ? roundUp(n) : n;
  let results: TensorInfo[];
  let beta: 0 | 1 = 0;
  if (sums.length === 0) {
    const shapes = dys.map((dy, i) => ({ shape: [dy.shape[1]!, n] as [number, number], count: counts[i]! }));
    results = makeBelow(backend, columns, shapes);
  } else {
    const wereBlank = takeBlank(backend, sums);
    const alike = (sum: TensorInfo, i: number) => {
      const { stride, rows } = matrixOf(backend, sum);
      const isWritable = backend.refCount(sum.dataId) === 1 && (wereBlank || typeOf(backend, sum) === 'f32');
      return isWritable && stride === columns && rows === counts[i];
    };
    if (sums.length < parts.length || !areBelow(backend, sums) || !sums.every(alike)) {
      if (wereBlank) for (const sum of sums) backend.stored(sum).blank = true;
      return undefined;
    }
    results = sums.map((sum) => writableSum(backend, sum, wereBlank));
    beta = wereBlank ? 0 : 1;
  }
  const left = operandOf(backend, dys[0]!);
  backend.matmul(left.address, right.address, backend.stored(results[0]!).address, {
    ...{ m: counts.reduce((sum, count) => sum + count, 0), n: columns, k, transposeA: true, transposeB: false },
    ...{ lda: left.stride, ldb: right.stride, ldc: columns, output: typeOf(backend, results[0]!), beta },
  });
  return results;
}

/** How a gradient is stored. */
function typeOf(backend: CudaBackend, gradient: TensorInfo): 'f32' | 'bf16' {
  return backend.stored(gradient).type === 'bf16' ? 'bf16' : 'f32';
}

/** Whether sums are all blank, for a caller that writes all of them in place of adding to zeros. */
export function takeBlank(backend: CudaBackend, sums: readonly TensorInfo[]): boolean {
  const entries = sums.map((sum) => backend.present(sum));
  const areBlank = entries.every(({ blank }) => blank) && sums.every(({ dataId }) => backend.refCount(dataId) === 1);
  if (areBlank) for (const entry of entries) entry.blank = undefined;
  return areBlank;
}

/**
 * A sum that is consumed, to be added to in place where no other tensor shares it: in float32, but where it `wasBlank` and one
 * matmul writes all that there will be of it, in the form in which it was placed.
 */
export function writableSum(backend: CudaBackend, sum: TensorInfo, wasBlank = false): TensorInfo {
  const inPlace = backend.refCount(sum.dataId) === 1 && (wasBlank || typeOf(backend, sum) === 'f32');
  if (!inPlace) return backend.cast(sum, 'f32', 'float32');
  backend.forgetCopy(sum);
  return alias(backend, sum, sum.shape);
}

export const matmulKernels = {
  Linears: linears,
  LinearsGrad: linearsGrad,
  WeightGrads: weightGrads,
} satisfies CudaKernels;
export const tfjsMatmulKernels = { BatchMatMul: batchMatMul } satisfies CudaTfjsKernels;
