/**
 * Products of few rows, as in generation: kernels of our own that read the weights once, and whose result for a row does not
 * depend on the rows beside it, as cuBLASLt's does.
 */
import type { CudaBackend } from '../backend.js';
import { i32, i64, pointer } from '../driver.js';
import type { Matrix } from '../rows.js';

/** Rows at most, as the contract says. */
const MOST_ROWS = 64;
/** rowwise.cu: the kernels by the rows they take, with the outputs of a block. */
const KERNELS = [
  { rows: 16, name: 'rowwise16', outs: 8 },
  { rows: 32, name: 'rowwise32', outs: 16 },
  { rows: MOST_ROWS, name: 'rowwise64', outs: 16 },
] as const;
const THREADS_OF_A_BLOCK = 256;

/** Whether `rowwise` takes these: few rows, and rows of 16-byte pieces with nothing but zeros behind them. */
export function servesRowwise(rows: number, x: Matrix, weight: Matrix): boolean {
  const width = Math.min(x.columns, weight.columns);
  return rows > 0 && rows <= MOST_ROWS && [width, x.stride, weight.stride].every((size) => size % 8 === 0);
}

/** y [rows, outs] = x·weightᵀ, both in bfloat16; rows of y are `yStride` elements apart. */
export function rowwise(
  backend: CudaBackend,
  y: { address: number; stride: number },
  x: Matrix,
  weight: Matrix,
  rows: number,
  outs: number,
): void {
  const kernel = KERNELS.find((one) => rows <= one.rows)!;
  const shape = { grid: [Math.ceil(outs / kernel.outs)] as const, block: THREADS_OF_A_BLOCK };
  backend.launch('rowwise.cu', kernel.name, shape, [
    ...[y, x, weight].flatMap(({ address, stride }) => [pointer(address), i64(stride)]),
    ...[rows, outs, Math.min(x.columns, weight.columns)].map(i32),
  ]);
}
