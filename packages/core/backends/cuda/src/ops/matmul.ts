/**
 * BatchMatMul through cuBLASLt. Operands are read as bfloat16 (float32 tensors through their cached copy). The result is
 * bfloat16, but for Aᵀ·B it stays float32: that is the form of a weight's gradient, which sums over all tokens and is
 * added up over micro-batches, where sixteen bits would lose it. Where one tensor takes several products, each adds to it.
 */
import { gradientsOf } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { alias, type CudaKernel, type CudaKernels, type CudaTfjsKernel, type CudaTfjsKernels } from './define.js';
import { fillAt } from './elementwise.js';

const batchMatMul: CudaTfjsKernel<'BatchMatMul'> = ({ a, b }, { transposeA, transposeB }, backend) => {
  const [ra, rb] = [a.shape.length, b.shape.length];
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

const linearsGrad: CudaKernel<'LinearsGrad'> = (tensors, _attrs, backend) => {
  const [m, n] = [tensors[0]!.shape[0]!, tensors[1]!.shape[1]!];
  const dx = backend.make([m, n], 'bf16');
  if (m * n === 0) return [dx];
  let beta: 0 | 1 = 0;
  for (let i = 0; i < tensors.length; i += 2) {
    const [dy, weight] = [tensors[i]!, tensors[i + 1]!];
    const k = weight.shape[0]!;
    if (k === 0) continue;
    const product = { m, n, k, transposeA: false, transposeB: false, output: 'bf16', beta } as const;
    backend.matmul(backend.bf16(dy), backend.bf16(weight), backend.address(dx), product);
    beta = 1;
  }
  if (beta === 0) fillAt(backend, backend.address(dx), 'bf16', 0, m * n);
  return [dx];
};

/** In float32, like every gradient of a weight. */
const weightGrads: CudaKernel<'WeightGrads'> = ({ x, ...others }, _attrs, backend) =>
  gradientsOf(others).map(({ dy, sum }) => {
    const [k, m] = dy.shape as [number, number];
    const n = x.shape[1]!;
    const y = sum ? writableSum(backend, sum) : backend.make([m, n], 'f32');
    const product = { m, n, k, transposeA: true, transposeB: false, output: 'f32', beta: sum ? 1 : 0 } as const;
    if (m * n * k > 0) backend.matmul(backend.bf16(dy), backend.bf16(x), backend.address(y), product);
    else if (!sum && m * n > 0) fillAt(backend, backend.address(y), 'f32', 0, m * n);
    return y;
  });

/** A sum that is given up, to be added to in place where no other tensor holds it. */
export function writableSum(backend: CudaBackend, sum: TensorInfo): TensorInfo {
  const inPlace = backend.refCount(sum.dataId) === 1 && backend.entry(sum).type === 'f32';
  if (!inPlace) return backend.cast(sum, 'f32', 'float32');
  backend.forgetCopy(sum);
  return alias(backend, sum, sum.shape);
}

export const matmulKernels = { LinearsGrad: linearsGrad, WeightGrads: weightGrads } satisfies CudaKernels;
export const tfjsMatmulKernels = { BatchMatMul: batchMatMul } satisfies CudaTfjsKernels;
