/** Numbers copied from one place in device memory to another, into another type or other rows. */
import type { CudaDriver } from './driver.js';
import { spread, vectorBlocks } from './grids.js';
import { THREADS } from './kernel_interface.js';
import { type Argument, i32, i64, type LaunchShape, pointer } from './launch.js';
import type { Extent, Matrix } from './rows.js';
import { BYTES, type Entry, type StorageType, TYPE_CODE } from './storage.js';

/** What this asks of the backend. */
interface Launching {
  readonly driver: CudaDriver;
  launch(file: string, name: string, shape: LaunchShape, args: readonly Argument[]): void;
}

/** Rows of a matrix to rows of another length, one after another; zeros where the matrix has none. */
export function copyRows(backend: Launching, to: Extent & { address: number }, from: Matrix, type: StorageType): void {
  const elements = to.rows * to.columns;
  if (elements === 0) return;
  backend.launch('elementwise.cu', 'copy_rows', { grid: [spread(elements)], block: THREADS }, [
    pointer(to.address),
    i64(to.columns),
    i64(to.rows),
    pointer(from.address),
    i64(from.stride),
    i64(from.columns),
    i64(from.rows),
    i32(BYTES[type]),
  ]);
}

/** Writes so many elements of a tensor that lie one after another to an address. */
export function castTo(
  backend: Launching,
  to: { address: number; type: StorageType },
  from: Pick<Entry, 'address' | 'type'>,
  size: number,
): void {
  const { driver } = backend;
  if (to.type !== from.type) castInto(backend, to.address, to.type, from.address, from.type, size);
  else driver.call('cuMemcpyDtoDAsync_v2', to.address, from.address, size * BYTES[to.type], driver.stream);
}

/** The same by a kernel, whether or not the types differ. */
export function castInto(
  backend: Launching,
  to: number,
  toType: StorageType,
  from: number,
  fromType: StorageType,
  size: number,
): void {
  if (fromType === 'f32' && toType === 'bf16')
    backend.launch('elementwise.cu', 'cast_to_bf16', { grid: [vectorBlocks(size)], block: THREADS }, [
      pointer(to),
      pointer(from),
      i64(size),
    ]);
  else
    backend.launch('elementwise.cu', 'copy_cast', { grid: [spread(size)], block: THREADS }, [
      pointer(to),
      i32(TYPE_CODE[toType]),
      pointer(from),
      i32(TYPE_CODE[fromType]),
      i64(size),
    ]);
}

/** As float32, with the further bits that there may be. */
export function widen(backend: Launching, to: number, { address, type, size, rest }: Entry): void {
  if (rest === undefined) castInto(backend, to, 'f32', address, type, size);
  else {
    const args = [pointer(to), pointer(address), pointer(rest), i64(size)];
    backend.launch('residual_fp24.cu', 'widen', { grid: [vectorBlocks(size)], block: THREADS }, args);
  }
}
