/** Sums, means and maxima over leading or trailing axes, running sums, and the norm over a list of tensors, in a fixed order. */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { PARTIALS_SIDE, SPAN, SPAN_ELEMENTS, THREADS } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { flatEntry } from '../matrix.js';
import { elementsInUse, TYPE_CODE } from '../storage.js';
import type { CudaKernel, CudaKernels, CudaTfjsKernel, CudaTfjsKernels } from './define.js';

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
  out: number[];
  rows: number;
  columns: number;
  /** Whether the reduced axes are the last ones (else the first). */
  trailing: boolean;
}

function plan(x: TensorInfo, axis: number | number[], keepDims: boolean): Reduction | undefined {
  const axes = util.parseAxisParam(axis, x.shape).sort((a, b) => a - b);
  const reduced = new Set(axes);
  const out = keepDims ? x.shape.map((n, d) => (reduced.has(d) ? 1 : n)) : x.shape.filter((_, d) => !reduced.has(d));
  const rank = x.shape.length;
  const trailing = axes.every((d, i) => d === rank - axes.length + i);
  const leading = axes.every((d, i) => d === i);
  if (!trailing && !leading) return undefined;
  const split = trailing ? rank - axes.length : axes.length;
  const rows = x.shape.slice(0, split).reduce((p, n) => p * n, 1);
  const columns = x.shape.slice(split).reduce((p, n) => p * n, 1);
  return { out, rows, columns, trailing };
}

function sum(mean: boolean): CudaTfjsKernel<'Sum' | 'Mean'> {
  return ({ x }, { axis, keepDims }, backend) => {
    const reduction = plan(x, axis, keepDims);
    if (!reduction || x.dtype !== 'float32') return undefined;
    const { rows, columns, trailing } = reduction;
    const y = backend.make(reduction.out, 'f32');
    const scale = mean ? 1 / (trailing ? columns : rows) : 1;
    const entry = backend.entry(x);
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
    return y;
  };
}

const max: CudaTfjsKernel<'Max'> = ({ x }, { reductionIndices, keepDims }, backend) => {
  const reduction = plan(x, reductionIndices, keepDims);
  if (!reduction?.trailing || x.dtype !== 'float32') return undefined;
  const y = backend.make(reduction.out, 'f32');
  const entry = backend.entry(x);
  const args = [
    pointer(backend.address(y)),
    pointer(entry.address),
    i32(TYPE_CODE[entry.type]),
    i64(reduction.columns),
  ];
  backend.launch('reduce.cu', 'max_rows', { grid: [reduction.rows], block: THREADS }, args);
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
} satisfies CudaTfjsKernels;
