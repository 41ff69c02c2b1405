/**
 * tfjs's batched matmul, with its broadcasting of the batch, on the C++ library; and the ops that sum several matmuls.
 */
import { gradientsOf, runReference } from '@stickbreaking/core/backend';
import { broadcast_util, type TensorInfo } from '@tensorflow/tfjs-core';
import { isUnseen, type NativeKernels, type NativeTfjsKernels, share } from './backend.js';
import { nativeFunction } from './library.js';

const signature =
  'void sb_gemm(int32_t ta, int32_t tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int32_t accumulate)';

export const tfjsMatmulKernels = {
  BatchMatMul({ a, b }, { transposeA, transposeB }, tools) {
    const [m, k] = lastTwo(a, transposeA);
    const n = lastTwo(b, transposeB)[1];
    const batchA = a.shape.slice(0, -2);
    const batchB = b.shape.slice(0, -2);
    const batch = broadcast_util.assertAndGetBroadcastShape(batchA, batchB);
    const batches = batch.reduce((x, y) => x * y, 1);
    const gemm = nativeFunction(signature);
    const left = tools.read(a);
    const right = tools.read(b);
    const result = tools.allocate(batches * m * n);
    for (let i = 0; i < batches; i++) {
      const fromA = m * k * batchIndex(i, batch, batchA);
      const fromB = k * n * batchIndex(i, batch, batchB);
      gemm(
        ...[transposeA ? 1 : 0, transposeB ? 1 : 0, m, n, k],
        ...[left.subarray(fromA, fromA + m * k), transposeA ? m : k],
        ...[right.subarray(fromB, fromB + k * n), transposeB ? k : n],
        ...[result.subarray(i * m * n, (i + 1) * m * n), n, 0],
      );
    }
    return tools.make([...batch, m, n], 'float32', result);
  },
} satisfies NativeTfjsKernels;

/** Up to so many rows are multiplied each by itself. */
const ROWWISE = 64;

export const matmulKernels = {
  Linears(inputs, attrs, { read, make, allocate }) {
    if (attrs.precision === 'fp8') return runReference('Linears', inputs, attrs);
    const [x, ...weights] = inputs;
    const [rows, width] = x.shape as [number, number];
    const rowwise = nativeFunction(
      'void sb_rowwise(int64_t rows, int64_t outs, int64_t width, void *x, void *weight, void *y)',
    );
    const gemm = nativeFunction(signature);
    return weights.map((weight) => {
      const out = weight.shape[0]!;
      const y = allocate(rows * out);
      if (rows <= ROWWISE) rowwise(rows, out, width, read(x), read(weight), y);
      else gemm(...[0, 1, rows, out, width], ...[read(x), width, read(weight), width, y, out, 0]);
      return make([rows, out], 'float32', y);
    });
  },

  LinearsGrad(inputs, attrs, { read, make, allocate }) {
    if (attrs.precision === 'fp8') return runReference('LinearsGrad', inputs, attrs);
    const [rows, width] = [inputs[0]!.shape[0]!, inputs[1]!.shape[1]!];
    const dx = allocate(rows * width);
    const gemm = nativeFunction(signature);
    for (let i = 0; i < inputs.length; i += 2) {
      const [dy, weight] = [inputs[i]!, inputs[i + 1]!];
      const out = weight.shape[0]!;
      gemm(...[0, 0, rows, width, out], ...[read(dy), out, read(weight), width, dx, width, i > 0 ? 1 : 0]);
    }
    return [make([rows, width], 'float32', dx)];
  },

  WeightGrads({ x, ...others }, _attrs, { read, make, allocate }) {
    const gemm = nativeFunction(signature);
    const width = x.shape[1]!;
    return gradientsOf(others).map(({ dy, sum }) => {
      const [rows, out] = dy.shape as [number, number];
      const inPlace = sum && isUnseen(sum);
      const target = inPlace ? read(sum) : allocate(out * width);
      if (sum && !inPlace) target.set(read(sum));
      gemm(...[1, 0, out, width, rows], ...[read(dy), out, read(x), width, target, width, sum ? 1 : 0]);
      return inPlace ? share(sum) : make([out, width], 'float32', target);
    });
  },
} satisfies NativeKernels;

function lastTwo(info: TensorInfo, transposed: boolean): [number, number] {
  const [rows, columns] = info.shape.slice(-2) as [number, number];
  return transposed ? [columns, rows] : [rows, columns];
}

/** The index, among an operand's own matrices, of the i-th matrix of the broadcast batch. */
function batchIndex(i: number, batch: readonly number[], own: readonly number[]): number {
  let index = 0;
  let stride = 1;
  let rest = i;
  for (let axis = batch.length - 1; axis >= 0; axis--) {
    const at = rest % batch[axis]!;
    rest = Math.floor(rest / batch[axis]!);
    const size = own[axis - (batch.length - own.length)] ?? 1;
    if (size > 1) index += at * stride;
    stride *= size;
  }
  return index;
}
