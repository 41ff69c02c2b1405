/** Matrices as the matmuls see them: where they lie, padded or side by side (rows.ts). */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from './backend.js';
import { releaseCopies } from './entry_memory.js';
import type { Extent, Matrix, Rows } from './rows.js';
import { SharedMemory } from './shared_memory.js';
import { BYTES, type Entry, elementsOf } from './storage.js';

function rowsOf(backend: CudaBackend, tensor: TensorInfo, columns: number): { entry: Entry; rows: Rows } {
  const stored = backend.stored(tensor);
  const entry = stored.rows && stored.rows.columns !== columns ? backend.entry(tensor) : stored;
  const plain = { columns, width: columns, stride: columns, count: columns === 0 ? 0 : entry.size / columns };
  return { entry, rows: entry.rows?.columns === columns ? entry.rows : plain };
}

/** The tensor as it is stored. `columns`: of a row; default: the last dimension. */
export function matrixOf(backend: CudaBackend, tensor: TensorInfo, columns = lastOf(tensor)): Matrix {
  const { entry, rows } = rowsOf(backend, tensor, columns);
  return { address: entry.address, stride: rows.stride, rows: rows.count, columns: rows.width };
}

/** The same in bfloat16, through the copy kept with the tensor where it is stored otherwise. */
export function operandOf(backend: CudaBackend, tensor: TensorInfo, columns = lastOf(tensor)): Matrix {
  const { entry, rows } = rowsOf(backend, tensor, columns);
  return { address: backend.bf16Of(entry), stride: rows.stride, rows: rows.count, columns: rows.width };
}

function lastOf({ shape }: TensorInfo): number {
  return shape[shape.length - 1]!;
}

/** The tensor with its rows one after another, each with its padding: for kernels that only need its elements, once each. */
export function flatEntry(backend: CudaBackend, tensor: TensorInfo): Entry {
  const entry = backend.stored(tensor);
  return entry.rows && entry.rows.stride !== entry.rows.width ? backend.entry(tensor) : entry;
}

/** A new matrix of `extent` in memory, which holds nothing yet. */
export function makeMatrix(
  backend: CudaBackend,
  shape: [number, number],
  type: 'bf16' | 'f32',
  extent: Extent,
): TensorInfo {
  const [count, columns] = shape;
  if (extent.rows === count && extent.columns === columns) return backend.make(shape, type);
  const rows = { columns, width: extent.columns, stride: extent.columns, count: extent.rows };
  return backend.place({
    shape,
    type,
    address: backend.driver.allocate(rows.count * rows.stride * BYTES[type]),
    rows,
  });
}

/** New bfloat16 tensors of `count` rows that lie side by side, each of `columns` a row and `width` in memory. */
export function makeBeside(
  backend: CudaBackend,
  count: number,
  parts: readonly { shape: number[]; columns: number; width: number }[],
): TensorInfo[] {
  const stride = parts.reduce((sum, { width }) => sum + width, 0);
  const memory = new SharedMemory(backend.driver, count * stride * BYTES.bf16, parts.length);
  let { address } = memory;
  return parts.map(({ shape, columns, width }) => {
    const part = backend.place({ shape, type: 'bf16', address, rows: { columns, width, stride, count }, memory });
    address += width * BYTES.bf16;
    return part;
  });
}

/** New float32 matrices [rows, columns], one below the other, each of `count` rows of `width` in memory. */
export function makeBelow(
  backend: CudaBackend,
  width: number,
  parts: readonly { shape: [number, number]; count: number }[],
): TensorInfo[] {
  const rows = parts.reduce((sum, { count }) => sum + count, 0);
  const memory = new SharedMemory(backend.driver, rows * width * BYTES.f32, parts.length);
  let { address } = memory;
  return parts.map(({ shape, count }) => {
    const [own, columns] = shape;
    const padded = count === own && width === columns ? {} : { rows: { columns, width, stride: width, count } };
    const part = backend.place({ shape, type: 'f32', address, memory, ...padded });
    address += count * width * BYTES.f32;
    return part;
  });
}

/** Whether bfloat16 tensors lie side by side in one memory, in this order. */
export function areBeside(backend: CudaBackend, tensors: readonly TensorInfo[]): boolean {
  const entries = tensors.map((tensor) => backend.stored(tensor));
  return entries.every(({ memory, rows, type, address }, i) => {
    if (!memory || !rows || type !== 'bf16' || memory !== entries[0]!.memory) return false;
    const next = entries[i + 1];
    return !next || (next.rows?.stride === rows.stride && next.address === address + rows.width * BYTES.bf16);
  });
}

/** Whether float32 tensors, or bfloat16 ones, lie one below the other in one memory, in this order. */
export function areBelow(backend: CudaBackend, tensors: readonly TensorInfo[]): boolean {
  const entries = tensors.map((tensor) => backend.stored(tensor));
  return entries.every((entry, i) => {
    const { memory, type } = entry;
    if (!memory || (type !== 'f32' && type !== 'bf16')) return false;
    if (memory !== entries[0]!.memory || type !== entries[0]!.type) return false;
    const next = entries[i + 1];
    return !next || next.address === entry.address + elementsOf(entry) * BYTES[type];
  });
}

/**
 * The bfloat16 copies of weights as one matrix, one below the other; they are laid out so when first asked for.
 *
 * @returns undefined where that cannot be: rows of different lengths, a weight named twice or already laid out with others
 */
export function copiesBelow(backend: CudaBackend, weights: readonly TensorInfo[]): Matrix | undefined {
  const all = weights.map((weight) => ({ entry: backend.stored(weight), own: matrixOf(backend, weight) }));
  const [{ own: first }] = all as [(typeof all)[0]];
  const rows = all.reduce((sum, { own }) => sum + own.rows, 0);
  if (all.every(({ entry }) => entry.type === 'bf16')) {
    // Weights that are kept in bfloat16 alone: where several processes share the rest.
    const follow = all.every(({ entry, own }, i) => {
      const next = all[i + 1]?.entry;
      const whole = own.stride === first.stride && own.columns === own.stride && own.rows % 8 === 0;
      return whole && (!next || next.address === entry.address + elementsOf(entry) * BYTES.bf16);
    });
    return follow ? { address: first.address, stride: first.stride, rows, columns: first.columns } : undefined;
  }
  const alike = all.every(
    ({ entry, own }) =>
      entry.type === 'f32' && own.stride === first.stride && own.columns === own.stride && own.rows % 8 === 0,
  );
  if (!alike || new Set(all.map(({ entry }) => entry)).size < all.length) return undefined;
  const together = all.every(({ entry }, i) => {
    const next = all[i + 1]?.entry;
    if (entry.copy === undefined || !entry.copyMemory || entry.copyMemory !== all[0]!.entry.copyMemory) return false;
    return !next || next.copy === entry.copy + elementsOf(entry) * BYTES.bf16;
  });
  if (!together) {
    if (all.some(({ entry }) => entry.copyMemory)) return undefined;
    const elements = all.reduce((sum, { entry }) => sum + elementsOf(entry), 0);
    const memory = new SharedMemory(backend.driver, elements * BYTES.bf16, all.length);
    let { address } = memory;
    for (const { entry } of all) {
      releaseCopies(backend.driver, entry);
      backend.copyTo(entry, address);
      entry.copyMemory = memory;
      address += elementsOf(entry) * BYTES.bf16;
    }
  }
  return { address: all[0]!.entry.copy!, stride: first.stride, rows, columns: first.columns };
}
