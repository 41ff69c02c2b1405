/** Operations that move elements without changing them: views, slices, transposes, concatenations. */
import { backend_util, slice_util, type Tensor, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { spread } from '../grids.js';
import { LAYOUT, MAX_RANK, THREADS } from '../kernel_interface.js';
import { i32, i64, pointer } from '../launch.js';
import { BYTES, TYPE_CODE } from '../storage.js';
import { alias, type CudaTfjsKernel, type CudaTfjsKernels } from './define.js';

/** y[i…] = x[offset + Σ i·stride]; strides count elements of x. */
function strided(backend: CudaBackend, x: TensorInfo, shape: number[], strides: number[], offset = 0): TensorInfo {
  const entry = backend.entry(x);
  const y = backend.make(shape, entry.type, x.dtype);
  const outermost = Array<number>(MAX_RANK - shape.length).fill(1);
  const layout = LAYOUT.argument({ size: [...outermost, ...shape], stride: [...outermost, ...strides] });
  const n = util.sizeFromShape(shape);
  backend.launch('elementwise.cu', 'gather_strided', { grid: [spread(n)], block: THREADS }, [
    pointer(backend.address(y)),
    pointer(entry.address),
    i32(BYTES[entry.type]),
    i64(offset),
    layout,
    i64(n),
  ]);
  return y;
}

function rowMajor(shape: number[]): number[] {
  const strides = Array<number>(shape.length).fill(1);
  for (let d = shape.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * shape[d + 1]!;
  return strides;
}

const reshape: CudaTfjsKernel<'Reshape'> = ({ x }, { shape }, backend) =>
  alias(backend, x, util.inferFromImplicitShape(shape, util.sizeFromShape(x.shape)));

const expandDims: CudaTfjsKernel<'ExpandDims'> = ({ input }, { dim }, backend) => {
  const shape = input.shape.slice();
  shape.splice(dim < 0 ? shape.length + 1 + dim : dim, 0, 1);
  return alias(backend, input, shape);
};

/** The first two axes of three exchanged, in units of 16 bytes; undefined where the last one is not of such. */
function swapAxes(backend: CudaBackend, x: TensorInfo): TensorInfo | undefined {
  const [a, b, c] = x.shape as [number, number, number];
  const entry = backend.entry(x);
  const units = (c * BYTES[entry.type]) / 16;
  if (!Number.isInteger(units) || units === 0 || a * b * units >= 2 ** 31) return undefined;
  const y = backend.make([b, a, c], entry.type, x.dtype);
  const args = [pointer(backend.address(y)), pointer(entry.address), i32(a), i32(b), i32(units)];
  backend.launch('elementwise.cu', 'swap_axes', { grid: [spread(a * b * units)], block: THREADS }, args);
  return y;
}

const transpose: CudaTfjsKernel<'Transpose'> = ({ x }, { perm }, backend) => {
  if (x.shape.length > MAX_RANK) return undefined;
  const swapped = perm.join() === '1,0,2' && swapAxes(backend, x);
  return swapped || permuted(backend, x, perm);
};

/** The tensor, of MAX_RANK axes at most, with its axes in another order. */
export function permuted(backend: CudaBackend, x: TensorInfo, perm: readonly number[]): TensorInfo {
  const strides = rowMajor(x.shape);
  return strided(
    backend,
    x,
    perm.map((d) => x.shape[d]!),
    perm.map((d) => strides[d]!),
  );
}

const slice: CudaTfjsKernel<'Slice'> = ({ x }, { begin, size }, backend) => {
  if (x.shape.length > MAX_RANK) return undefined;
  // tfjs asks for a whole tensor here and reads its shape alone.
  const [from, shape] = slice_util.parseSliceParams(x as Tensor, begin, size) as [number[], number[]];
  const strides = rowMajor(x.shape);
  const offset = from.reduce((sum, at, d) => sum + at * strides[d]!, 0);
  return strided(backend, x, shape, strides, offset);
};

/** The gradient of a concatenation. */
const splitV: CudaTfjsKernel<'SplitV'> = ({ x }, { numOrSizeSplits, axis }, backend) => {
  if (x.shape.length > MAX_RANK) return undefined;
  const along = util.parseAxisParam(axis, x.shape)[0]!;
  const strides = rowMajor(x.shape);
  let from = 0;
  return backend_util.prepareSplitSize(x as Tensor, numOrSizeSplits, along).map((size) => {
    const shape = x.shape.with(along, size);
    const part = strided(backend, x, shape, strides, from * strides[along]!);
    from += size;
    return part;
  });
};

/** Axes of one element repeated; of MAX_RANK axes at most. */
export function tileTo(backend: CudaBackend, x: TensorInfo, shape: number[]): TensorInfo {
  const padded = [...Array<number>(shape.length - x.shape.length).fill(1), ...x.shape];
  const strides = rowMajor(padded).map((stride, d) => (padded[d] === 1 && shape[d] !== 1 ? 0 : stride));
  return strided(backend, x, shape, strides);
}

const tile: CudaTfjsKernel<'Tile'> = ({ x }, { reps }, backend) => {
  const plain = x.shape.length <= MAX_RANK && reps.every((r, d) => r === 1 || x.shape[d] === 1);
  if (!plain) return undefined;
  return tileTo(
    backend,
    x,
    x.shape.map((n, d) => n * reps[d]!),
  );
};

/** Rows along an axis, by their numbers. Numbers that the host knows are checked; rows of others that do not exist are zeros. */
const gather: CudaTfjsKernel<'GatherV2'> = ({ x, indices }, { axis, batchDims }, backend) => {
  const numbers = backend.entry(indices);
  if (numbers.type !== 'i32') return undefined;
  const along = util.parseAxisParam(axis, x.shape)[0]!;
  // tfjs asks for whole tensors here and reads their shapes alone.
  const info = backend_util.segment_util.collectGatherOpShapeInfo(x as Tensor, indices as Tensor, along, batchDims);
  const { batchSize, outerSize, dimSize, sliceSize, outputShape } = info;
  const wrong = numbers.host?.find((index) => index < 0 || index >= dimSize);
  if (wrong !== undefined)
    throw new Error(`gather: index ${wrong} along an axis of ${dimSize}; expected 0 to ${dimSize - 1}`);
  const entry = backend.entry(x);
  const y = backend.make(outputShape, entry.type, x.dtype);
  const bytes = BYTES[entry.type];
  const unit = (sliceSize * bytes) % 16 === 0 && entry.address % 16 === 0 ? 16 : bytes;
  const total = (util.sizeFromShape(outputShape) * bytes) / unit;
  backend.launch('elementwise.cu', 'gather_rows', { grid: [spread(total)], block: THREADS }, [
    ...[backend.address(y), entry.address, numbers.address].map(pointer),
    ...[i32(unit), i64(outerSize), i64(batchSize > 0 ? numbers.size / batchSize : 0), i64(dimSize)],
    ...[i64((sliceSize * bytes) / unit), i64(total)],
  ]);
  return y;
};

/** Concatenation: for every outer index a run of each input, copied device to device where there are few, else by a kernel. */
const MOST_COPIES = 64;

const concat: CudaTfjsKernel<'Concat'> = (all, attrs, backend) => {
  const axis = util.parseAxisParam(attrs.axis, all[0]!.shape)[0]!;
  const shape = backend_util.computeOutShape(
    all.map((t) => t.shape),
    axis,
  );
  const parts = all.filter((t) => util.sizeFromShape(t.shape) > 0);
  const types = new Set(parts.map((t) => backend.entry(t).type));
  const outer = shape.slice(0, axis).reduce((p, n) => p * n, 1);
  // Numbers of both forms: the wider one keeps all.
  const [type] = types.size === 1 ? [...types] : (['f32'] as const);
  if (parts.length === 0 || !type || [...types].some((one) => one !== type && one !== 'bf16')) return undefined;
  const y = backend.make(shape, type, all[0]!.dtype);
  const width = BYTES[type];
  let to = backend.address(y);
  if (types.size !== 1 || outer > MOST_COPIES) {
    const total = util.sizeFromShape(shape) / outer;
    for (const part of parts) {
      const run = util.sizeFromShape(part.shape) / outer;
      const { address, type: from } = backend.entry(part);
      backend.launch('elementwise.cu', 'place_runs', { grid: [spread(outer * run)], block: THREADS }, [
        ...[pointer(to), i32(TYPE_CODE[type]), pointer(address), i32(TYPE_CODE[from])],
        ...[i64(outer), i64(run), i64(total)],
      ]);
      to += run * width;
    }
    return y;
  }
  for (let o = 0; o < outer; o++)
    for (const part of parts) {
      const run = (util.sizeFromShape(part.shape) / outer) * width;
      backend.driver.call('cuMemcpyDtoDAsync_v2', to, backend.address(part) + o * run, run, backend.driver.stream);
      to += run;
    }
  return y;
};

export const tfjsShapeKernels = {
  Identity: ({ x }, _attrs, backend) => alias(backend, x, x.shape),
  Reshape: reshape,
  ExpandDims: expandDims,
  Transpose: transpose,
  Slice: slice,
  SplitV: splitV,
  Tile: tile,
  BroadcastTo: ({ x }, { shape }, backend) => tileTo(backend, x, shape),
  Concat: concat,
  GatherV2: gather,
} satisfies CudaTfjsKernels;
