/**
 * Operands of matmuls in eight bits (fp8.cuh): every row scaled for itself. Activations and their gradients are made such where
 * they are written, if the op that writes them was told so (`readBy`), else where they are read. Weights are made such once
 * after each update, by their rows for the forward and, turned, by their columns for the gradient: cuBLASLt takes both operands
 * of a matmul by rows alone.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from './backend.js';
import { releaseEightWeight } from './entry_memory.js';
import { CudaError } from './errors.js';
import { ROW_THREADS, VECTOR, WEIGHT_SIDE } from './kernel_interface.js';
import { i32, i64, pointer } from './launch.js';
import type { Matrix } from './rows.js';
import type { Scratch } from './scratch.js';
import type { Eight, EightWeight } from './storage.js';

/** Rows are filled up to a multiple of it: the largest at which all of a tensor core's steps are whole. */
export const ROW_MULTIPLE = WEIGHT_SIDE;
const ALIGNMENT = 256;
/** Vectors of eight that a thread may hold. */
const MOST_GROUPS = 4;

export function widthOf(columns: number): number {
  return Math.ceil(columns / ROW_MULTIPLE) * ROW_MULTIPLE;
}

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Bytes of a matrix in eight bits with its scales, and its parts from an address on. */
function layOut(rows: number, columns: number) {
  const width = widthOf(columns);
  const matrix = aligned(rows * width);
  return {
    bytes: matrix + aligned(rows * 4),
    at: (address: number): Eight => ({ address, scales: address + matrix, columns, width }),
  };
}

/** @throws CudaError where the GPU has no matmuls in eight bits */
export function checkServesEight(backend: CudaBackend): void {
  if (backend.hopper) return;
  const { deviceName, computeCapability } = backend.driver;
  throw new CudaError(
    `precision fp8 needs a Hopper GPU (compute capability 9.0); this is ${deviceName} (${computeCapability / 10}). Leave precision out.`,
  );
}

/** Threads and vectors a thread for a block that has a row of so many columns; undefined where it is too long for one. */
export function rowShape(columns: number): { threads: number; groups: 1 | 4 } | undefined {
  const vectors = columns / VECTOR;
  if (vectors > ROW_THREADS * MOST_GROUPS) return undefined;
  const groups = vectors <= ROW_THREADS ? 1 : MOST_GROUPS;
  return { threads: Math.ceil(vectors / groups / 32) * 32, groups };
}

/** Whether the kernels here can read the rows of a bfloat16 matrix. */
export function canBeEight({ stride, columns }: Matrix): boolean {
  return stride % VECTOR === 0 && columns % VECTOR === 0 && columns > 0 && rowShape(widthOf(columns)) !== undefined;
}

/** The rows of a bfloat16 matrix in eight bits, in scratch memory. */
export function quantizeRows(backend: CudaBackend, count: number, x: Matrix, scratch: Scratch): Eight {
  const layout = layOut(count, x.columns);
  const eight = layout.at(scratch.allocate(layout.bytes));
  const { threads, groups } = rowShape(eight.width)!;
  backend.launch('fp8.cu', `quantize_rows${groups}`, { grid: [count], block: threads }, [
    ...[pointer(eight.address), pointer(eight.scales), pointer(x.address)],
    ...[i64(x.stride), i32(x.columns), i32(eight.width)],
  ]);
  return eight;
}

/** Memory beside a tensor for the same in eight bits, which its op fills. */
export function attachEight(backend: CudaBackend, tensor: TensorInfo, count: number, columns: number): Eight {
  const layout = layOut(count, columns);
  const entry = backend.stored(tensor);
  entry.eight = layout.at(backend.driver.allocate(layout.bytes));
  return entry.eight;
}

/** What an op has written beside a tensor; it is read once, and goes with the scratch memory. */
export function takeEight(
  backend: CudaBackend,
  tensor: TensorInfo,
  columns: number,
  scratch: Scratch,
): Eight | undefined {
  const entry = backend.stored(tensor);
  const { eight } = entry;
  if (!eight || eight.columns !== columns) return undefined;
  entry.eight = undefined;
  scratch.adopt(eight.address);
  return eight;
}

/** Weights that lie one below the other, whose bfloat16 copy is `matrix`, in eight bits; made anew after an update. */
export function eightWeight(backend: CudaBackend, weights: readonly TensorInfo[], matrix: Matrix): EightWeight {
  const entries = weights.map((weight) => backend.stored(weight));
  const first = entries[0]!;
  const kept = first.eightWeight;
  const sameWeights = kept?.of.length === entries.length && kept.of.every(({ entry }, i) => entry === entries[i]);
  if (kept && sameWeights && kept.of.every(({ entry, updates }) => updates === (entry.updates ?? 0))) return kept;
  const { rows, columns, stride, address } = matrix;
  const [byRow, byColumn] = [layOut(rows, columns), layOut(columns, rows)];
  if (kept && !sameWeights) releaseEightWeight(backend.driver, first);
  const memory = first.eightWeight?.address ?? backend.driver.allocate(byRow.bytes + byColumn.bytes);
  const made: EightWeight = {
    address: memory,
    byRow: byRow.at(memory),
    byColumn: byColumn.at(memory + byRow.bytes),
    of: entries.map((entry) => ({ entry, updates: entry.updates ?? 0 })),
  };
  first.eightWeight = made;
  backend.withScratch((scratch) => {
    const maxima = scratch.allocate((rows + columns) * 4);
    backend.driver.call('cuMemsetD8Async', maxima, 0, (rows + columns) * 4, backend.driver.stream);
    const given = [pointer(maxima), pointer(maxima + rows * 4), pointer(address), i64(stride), i32(rows), i32(columns)];
    const grid = [Math.ceil(columns / 256), Math.ceil(rows / 64)] as const;
    backend.launch('fp8.cu', 'weight_maxima', { grid, block: 256 }, given);
    const squares = [made.byRow.width / WEIGHT_SIDE, made.byColumn.width / WEIGHT_SIDE] as const;
    backend.launch('fp8.cu', 'quantize_weight', { grid: squares, block: 256 }, [
      ...[made.byRow, made.byColumn].flatMap((side) => [pointer(side.address), pointer(side.scales)]),
      ...given,
      ...[i32(made.byRow.width), i32(made.byColumn.width)],
    ]);
  });
  return made;
}
