/**
 * Products of few rows, as in generation: kernels of our own that read the weights once, and whose result for a row does not
 * depend on the rows beside it, as cuBLASLt's does.
 */
import type { CudaBackend } from '../backend.js';
import { i32, i64, pointer } from '../launch.js';
import type { Matrix } from '../rows.js';

/** Rows of a step of generation at most, as the contract says. */
export const MOST_ROWS = 64;
/** rowwise.cu: the kernels by the rows they take, with the outputs of a block, and of a cluster where there is one. */
const KERNELS = [
  { rows: 16, outs: 8, name: 'rowwise16', clustered: undefined },
  { rows: 32, outs: 16, name: 'rowwise32', clustered: 'rowwise_cluster32' },
  { rows: MOST_ROWS, outs: 16, name: 'rowwise64', clustered: 'rowwise_cluster64' },
] as const;
const RUNS = 8;
const STEP = 32;
const CLUSTER_OUTS = 64;
const CLUSTER_THREADS = 128;

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
  const width = Math.min(x.columns, weight.columns);
  const args = [
    ...[y, x, weight].flatMap(({ address, stride }) => [pointer(address), i64(stride)]),
    ...[rows, outs, width].map(i32),
  ];
  const { pitch, shared } = clusterMemory(kernel.rows, width);
  if (kernel.clustered && backend.driver.computeCapability >= 90 && shared <= backend.driver.sharedPerBlock) {
    const grid = [Math.ceil(outs / CLUSTER_OUTS) * RUNS] as const;
    const shape = { grid, block: CLUSTER_THREADS, shared, early: true };
    backend.launch('rowwise.cu', kernel.clustered, shape, [...args, i32(pitch)]);
    return;
  }
  const shape = { grid: [Math.ceil(outs / kernel.outs)] as const, block: RUNS * 32, early: true };
  backend.launch('rowwise.cu', kernel.name, shape, args);
}

/** rowwise.cu: elements from one row of a run of x to the next in shared memory, and the bytes of it. */
function clusterMemory(rows: number, width: number): { pitch: number; shared: number } {
  const steps = Math.ceil(Math.ceil(width / STEP) / RUNS);
  const pitch = Math.ceil((steps * STEP) / 64) * 64 + 32;
  return { pitch, shared: rows * Math.max(2 * pitch, 4 * (CLUSTER_OUTS + 8)) };
}
