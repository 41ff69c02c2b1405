/** Operations that move elements without changing them: views, slices, transposes, concatenations. */
import { backend_util, slice_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { spread } from '../backend.js';
import { i32, i64, pointer } from '../driver.js';
import { BYTES } from '../storage.js';
import { alias, type KernelCall, type KernelTable, need } from './define.js';
import { runOnCpu } from './fallback.js';

const MAX_RANK = 6;

/** y[i…] = x[offset + Σ i·stride]; strides count elements of x. */
function gather(call: KernelCall, x: TensorInfo, shape: number[], strides: number[], offset = 0): TensorInfo {
  const { backend } = call;
  const entry = backend.entry(x);
  const y = backend.make(shape, entry.type, x.dtype);
  const layout = new BigInt64Array(MAX_RANK * 2).fill(1n);
  shape.forEach((size, d) => {
    layout[MAX_RANK - shape.length + d] = BigInt(size);
    layout[2 * MAX_RANK - shape.length + d] = BigInt(strides[d]!);
  });
  const n = util.sizeFromShape(shape);
  backend.launch('elementwise.cu', 'gather_strided', { grid: [spread(n)], block: 256 }, [
    pointer(backend.address(y)),
    pointer(entry.address),
    i32(BYTES[entry.type]),
    i64(offset),
    { bytes: new Uint8Array(layout.buffer) },
    i64(n),
  ]);
  return y;
}

function rowMajor(shape: number[]): number[] {
  const strides = Array<number>(shape.length).fill(1);
  for (let d = shape.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * shape[d + 1]!;
  return strides;
}

function reshape(call: KernelCall): TensorInfo {
  const x = need(call, 'x');
  const size = util.sizeFromShape(x.shape);
  return alias(call, x, util.inferFromImplicitShape(call.attrs.shape as number[], size));
}

function expandDims(call: KernelCall): TensorInfo {
  const x = need(call, 'input');
  const dim = call.attrs.dim as number;
  const shape = x.shape.slice();
  shape.splice(dim < 0 ? shape.length + 1 + dim : dim, 0, 1);
  return alias(call, x, shape);
}

function transpose(call: KernelCall): TensorInfo {
  const x = need(call, 'x');
  const order = call.attrs.perm as number[];
  if (x.shape.length > MAX_RANK) return runOnCpu('Transpose', call) as TensorInfo;
  const strides = rowMajor(x.shape);
  return gather(
    call,
    x,
    order.map((d) => x.shape[d]!),
    order.map((d) => strides[d]!),
  );
}

function slice(call: KernelCall): TensorInfo {
  const x = need(call, 'x');
  if (x.shape.length > MAX_RANK) return runOnCpu('Slice', call) as TensorInfo;
  const { begin, size } = call.attrs as { begin: number | number[]; size: number | number[] };
  const [from, shape] = slice_util.parseSliceParams(x as never, begin, size) as [number[], number[]];
  const strides = rowMajor(x.shape);
  const offset = from.reduce((sum, at, d) => sum + at * strides[d]!, 0);
  return gather(call, x, shape, strides, offset);
}

function tileTo(call: KernelCall, x: TensorInfo, shape: number[]): TensorInfo {
  const padded = [...Array<number>(shape.length - x.shape.length).fill(1), ...x.shape];
  const strides = rowMajor(padded).map((stride, d) => (padded[d] === 1 && shape[d] !== 1 ? 0 : stride));
  return gather(call, x, shape, strides);
}

function tile(call: KernelCall): TensorInfo {
  const x = need(call, 'x');
  const reps = call.attrs.reps as number[];
  const plain = x.shape.length <= MAX_RANK && reps.every((r, d) => r === 1 || x.shape[d] === 1);
  if (!plain) return runOnCpu('Tile', call) as TensorInfo;
  return tileTo(
    call,
    x,
    x.shape.map((n, d) => n * reps[d]!),
  );
}

/** Concatenation: for every outer index a run of each input, copied device to device where there are few. */
function concat(call: KernelCall): TensorInfo {
  const { backend } = call;
  const all = Object.values(call.inputs);
  const axis = util.parseAxisParam(call.attrs.axis as number, all[0]!.shape)[0]!;
  const shape = backend_util.computeOutShape(
    all.map((t) => t.shape),
    axis,
  );
  const parts = all.filter((t) => util.sizeFromShape(t.shape) > 0);
  const types = new Set(parts.map((t) => backend.entry(t).type));
  const outer = shape.slice(0, axis).reduce((p, n) => p * n, 1);
  if (types.size !== 1 || outer > 64) return runOnCpu('Concat', call) as TensorInfo;
  const [type] = [...types];
  const y = backend.make(shape, type!, all[0]!.dtype);
  const width = BYTES[type!];
  let to = backend.address(y);
  for (let o = 0; o < outer; o++)
    for (const part of parts) {
      const run = (util.sizeFromShape(part.shape) / outer) * width;
      backend.driver.call('cuMemcpyDtoDAsync_v2', to, backend.address(part) + o * run, run, backend.driver.stream);
      to += run;
    }
  return y;
}

export const shapeKernels: KernelTable = {
  Identity: (call) => alias(call, need(call, 'x'), need(call, 'x').shape),
  Reshape: reshape,
  ExpandDims: expandDims,
  Transpose: transpose,
  Slice: slice,
  Tile: tile,
  BroadcastTo: (call) => tileTo(call, need(call, 'x'), call.attrs.shape as number[]),
  Concat: concat,
};
