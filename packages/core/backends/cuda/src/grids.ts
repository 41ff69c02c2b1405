/** How many blocks a kernel is launched with. */
import { THREADS, VECTOR } from './kernel_interface.js';

/** Blocks of THREADS threads, each of which moves VECTOR elements. */
export function vectorBlocks(size: number): number {
  return Math.ceil(size / (THREADS * VECTOR));
}
/** Blocks of THREADS threads for a kernel that gives each row to a warp. */
export function warpBlocks(rows: number): number {
  return Math.ceil(rows / (THREADS / 32));
}
/** Blocks of THREADS threads for a kernel that strides over its elements. */
export function spread(size: number): number {
  return Math.min(Math.ceil(size / THREADS), 132 * 16);
}
