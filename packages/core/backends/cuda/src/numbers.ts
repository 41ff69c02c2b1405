/**
 * The border between JavaScript's numbers and those of a kernel: a number that its parameter cannot hold would arrive
 * there as another one, so it is refused here.
 */
import { CudaError } from './errors.js';

/** A whole number that an int32 holds. */
export function int32(value: number): number {
  if (value === (value | 0)) return value;
  throw new CudaError(`cuda: ${value} is no whole number that 32 bits can hold, and a kernel was to be given it.`);
}

/** A whole number that is the same in JavaScript and in 64 bits. */
export function int64(value: number): number {
  if (Number.isSafeInteger(value)) return value;
  throw new CudaError(`cuda: ${value} is no whole number that a kernel could be given.`);
}

/** A number that float32 does not turn into an infinity. */
export function float32(value: number): number {
  if (!Number.isFinite(value) || Number.isFinite(Math.fround(value))) return value;
  throw new CudaError(`cuda: ${value} is more than float32 can hold, and a kernel was to be given it.`);
}
