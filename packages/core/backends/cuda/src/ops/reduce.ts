/** Sums, means, maxima and softmax over axes, running sums, and the norm over a list of tensors, in a fixed order. */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { MAX_RANK, PARTIALS_SIDE, SPAN, SPAN_ELEMENTS, THREADS } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { flatEntry } from '../matrix.js';
import { elementsInUse, TYPE_CODE } from '../storage.js';
import { alias, type CudaKernel, type CudaKernels, type CudaTfjsKernel, type CudaTfjsKernels } from './define.js';
import { permuted } from './shape.js';

/** Rows longer than this are summed by several blocks. */
const LONG_ROW = 65_536;
const PARTS = 256;

/** y[c] = Σ of partial sums [rows, columns], both float32 on the device. */
export function sumPartials(backend: CudaBackend, y: number, partial: number, rows: number, columns: number): void {
  const args = [pointer(y), pointer(partial), i32(rows), i64(columns)];
  backend.launch(
    'reduce.cu',
    'sum_partials',
    { grid: [Math.ceil(columns / PARTIALS_SIDE)], block: [PARTIALS_SIDE, PARTIALS_SIDE] },
    args,
  );
}

interface Reduction {
  /** The tensor, its elements as they are gone over; for the caller to dispose of. */
  of: TensorInfo;
  /** The result's shape. */
  out: number[];
  rows: number;
  columns: number;
  /** Whether the reduced axes are the last ones (else the first). */
  trailing: boolean;
}

/** Axes that are neither the last nor, where a kernel serves those, the first are brought behind the others. */
function plan(
  backend: CudaBackend,
  x: TensorInfo,
  axis: number | number[],
  keepDims: boolean,
  servesFirst: boolean,
): Reduction | undefined {
  if (x.dtype !== 'float32') return undefined;
  const rank = x.shape.length;
  const axes = util.parseAxisParam(axis, x.shape).sort((a, b) => a - b);
  const reduced = new Set(axes);
  const kept = x.shape.map((_, d) => d).filter((d) => !reduced.has(d));
  const out = keepDims ? x.shape.map((n, d) => (reduced.has(d) ? 1 : n)) : kept.map((d) => x.shape[d]!);
  const isLast = axes.every((d, i) => d === rank - axes.length + i);
  const isFirst = servesFirst && !isLast && axes.every((d, i) => d === i);
  if (!isLast && !isFirst && rank > MAX_RANK) return undefined;
  const [rows, columns] = (isFirst ? [axes, kept] : [kept, axes]).map((some) =>
    some.reduce((p, d) => p * x.shape[d]!, 1),
  ) as [number, number];
  const of = isLast || isFirst ? alias(backend, x, x.shape) : permuted(backend, x, [...kept, ...axes]);
  return { of, out, rows, columns, trailing: !isFirst };
}

function sum(mean: boolean): CudaTfjsKernel<'Sum' | 'Mean'> {
  return ({ x }, { axis, keepDims }, backend) => {
    const reduction = plan(backend, x, axis, keepDims, true);
    if (!reduction) return undefined;
    const { of, out, rows, columns, trailing } = reduction;
    const y = backend.make(out, 'f32');
    const scale = mean ? 1 / (trailing ? columns : rows) : 1;
    const entry = backend.entry(of);
    const args = [pointer(entry.address), i32(TYPE_CODE[entry.type])];
    const target = backend.address(y);
    backend.withScratch((scratch) => {
      if (trailing && columns <= LONG_ROW) {
        const all = [pointer(target), ...args, i64(columns), f32(scale)];
        backend.launch('reduce.cu', 'sum_rows', { grid: [rows, 1], block: THREADS }, all);
      } else if (trailing) {
        const partial = scratch.allocate(rows * PARTS * 4);
        backend.launch('reduce.cu', 'sum_rows', { grid: [rows, PARTS], block: THREADS }, [
          pointer(partial),
          ...args,
          i64(columns),
          f32(scale),
        ]);
        const again = [pointer(target), pointer(partial), i32(0), i64(PARTS), f32(1)];
        backend.launch('reduce.cu', 'sum_rows', { grid: [rows, 1], block: THREADS }, again);
      } else {
        const parts = Math.min(rows, PARTS);
        const partial = scratch.allocate(parts * columns * 4);
        const all = [pointer(partial), ...args, i64(rows), i64(columns), f32(scale)];
        backend.launch(
          'reduce.cu',
          'sum_columns',
          { grid: [Math.ceil(columns / THREADS), parts], block: THREADS },
          all,
        );
        sumPartials(backend, target, partial, parts, columns);
      }
    });
    backend.disposeData(of.dataId);
    return y;
  };
}

const max: CudaTfjsKernel<'Max'> = ({ x }, { reductionIndices, keepDims }, backend) => {
  const reduction = plan(backend, x, reductionIndices, keepDims, false);
  if (!reduction) return undefined;
  const { of, out, rows, columns } = reduction;
  const y = backend.make(out, 'f32');
  launchRows(backend, 'max_rows', y, of, rows, columns);
  backend.disposeData(of.dataId);
  return y;
};

/** tfjs's softmax is along the last axis alone. */
const softmax: CudaTfjsKernel<'Softmax'> = ({ logits }, _attrs, backend) => {
  if (logits.dtype !== 'float32') return undefined;
  const y = backend.make(logits.shape, 'f32');
  const columns = logits.shape.at(-1) ?? 1;
  const rows = columns > 0 ? util.sizeFromShape(logits.shape) / columns : 0;
  launchRows(backend, 'row_softmax', y, logits, rows, columns);
  return y;
};

/** A kernel that gives each row to a block. */
function launchRows(
  backend: CudaBackend,
  name: string,
  y: TensorInfo,
  x: TensorInfo,
  rows: number,
  columns: number,
): void {
  const { address, type } = backend.entry(x);
  const args = [pointer(backend.address(y)), pointer(address), i32(TYPE_CODE[type]), i64(columns)];
  backend.launch('reduce.cu', name, { grid: [rows], block: THREADS }, args);
}

/** Running sums along an axis, a block for each line of elements. */
const cumsum: CudaTfjsKernel<'Cumsum'> = ({ x }, { axis, exclusive, reverse }, backend) => {
  if (x.dtype !== 'float32') return undefined;
  const along = util.parseAxisParam(axis, x.shape)[0]!;
  const count = x.shape[along]!;
  const inner = x.shape.slice(along + 1).reduce((p, n) => p * n, 1);
  const y = backend.make(x.shape, 'f32');
  const { address, type, size } = backend.entry(x);
  const lines = size > 0 ? size / count : 0;
  backend.launch('reduce.cu', 'axis_sums', { grid: [lines], block: THREADS }, [
    ...[pointer(backend.address(y)), pointer(address), i32(TYPE_CODE[type]), i64(count), i64(inner)],
    ...[i32(reverse ? 1 : 0), i32(exclusive ? 1 : 0)],
  ]);
  return y;
};

/** A block for each document and column. */
const documentSums: CudaKernel<'DocumentSums'> = ({ x }, { cuSeqlens, reverse }, backend) => {
  const y = backend.make(x.shape, 'f32');
  const [documents, columns] = [cuSeqlens.length - 1, x.shape[1]!];
  if (documents * util.sizeFromShape(x.shape) === 0) return [y];
  const { address, type } = backend.entry(x);
  backend.withScratch((scratch) =>
    backend.launch('reduce.cu', 'document_sums', { grid: [documents, columns], block: THREADS }, [
      ...[pointer(backend.address(y)), pointer(address), i32(TYPE_CODE[type])],
      ...[pointer(scratch.upload(cuSeqlens)), i32(reverse ? 1 : 0)],
    ]),
  );
  return [y];
};

/** √Σx² over all tensors: partial sums of 64K elements each, then one block in float64. */
const globalNorm: CudaKernel<'GlobalNorm'> = (inputs, _attrs, backend) => {
  const tensors = Object.values(inputs);
  const spans = tensors.map((tensor) => {
    const entry = flatEntry(backend, tensor);
    return { data: entry.address, size: elementsInUse(entry), type: TYPE_CODE[entry.type] };
  });
  const first = new Int32Array(tensors.length);
  let blocks = 0;
  spans.forEach(({ size }, t) => {
    first[t] = blocks;
    blocks += Math.max(1, Math.ceil(size / SPAN_ELEMENTS));
  });
  const y = backend.make([], 'f32');
  backend.withScratch((scratch) => {
    const partial = scratch.allocate(blocks * 4);
    const table = [pointer(scratch.upload(SPAN.array(spans))), pointer(scratch.upload(first)), i32(tensors.length)];
    backend.launch('reduce.cu', 'square_sums', { grid: [blocks], block: THREADS }, [pointer(partial), ...table]);
    const args = [pointer(backend.address(y)), pointer(partial), i32(blocks)];
    backend.launch('reduce.cu', 'norm_of_sums', { grid: [1], block: THREADS }, args);
  });
  return [y];
};

export const reduceKernels = { DocumentSums: documentSums, GlobalNorm: globalNorm } satisfies CudaKernels;
export const tfjsReduceKernels = {
  Sum: sum(false),
  Mean: sum(true),
  Max: max,
  Softmax: softmax,
  Cumsum: cumsum,
} satisfies CudaTfjsKernels;
