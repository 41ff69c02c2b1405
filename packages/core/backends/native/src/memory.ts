/**
 * Reuses the memory of disposed tensors: a training step allocates and drops hundreds of megabytes, and passing them
 * through the garbage collector and back to the system costs a tenth of its time. Only values that nobody outside this
 * backend's kernels has seen are reused, since tfjs hands out its arrays themselves and keeps views of them.
 */
import type { DataType } from '@tensorflow/tfjs-core';

/** The entry that tfjs's CPU backend keeps for a tensor, for values made by a kernel of ours. */
export class OwnValues<Values extends Float32Array | Int32Array = Float32Array | Int32Array> {
  refCount = 1;
  /** Whether somebody else has read `values` and may still hold them. */
  escaped = false;

  constructor(
    readonly dtype: DataType,
    readonly own: Values,
  ) {}

  get values(): Values {
    this.escaped = true;
    return this.own;
  }
}

const leastLength = 1024; // shorter ones are the garbage collector's
const mostBytesOfOne = 2 ** 24; // those of long contexts would double its peak
const mostBytes = 2 ** 28;

export class ArrayPool {
  /** Arrays by length, the least recently returned lengths first. */
  private readonly free = new Map<number, Float32Array[]>();
  private bytes = 0;

  /** An array of the length, not initialised. */
  take(length: number): Float32Array {
    // Node's only way to memory that is not filled with zeros first.
    return this.taken(length) ?? new Float32Array(Buffer.allocUnsafeSlow(length * 4).buffer);
  }

  /** An array of zeros of the length. */
  takeZeros(length: number): Float32Array {
    // Pages of a new array are zero before they are touched.
    return this.taken(length)?.fill(0) ?? new Float32Array(length);
  }

  private taken(length: number): Float32Array | undefined {
    const found = this.free.get(length)?.pop();
    if (found) this.bytes -= found.byteLength;
    return found;
  }

  give(values: Float32Array): void {
    const { length, byteLength } = values;
    if (length < leastLength || byteLength > mostBytesOfOne || byteLength !== values.buffer.byteLength) return;
    const same = this.free.get(length) ?? [];
    same.push(values);
    this.free.delete(length);
    this.free.set(length, same);
    this.bytes += byteLength;
    for (const [oldest, arrays] of this.free) {
      if (this.bytes <= mostBytes) break;
      this.bytes -= arrays.length * oldest * 4;
      this.free.delete(oldest);
    }
  }
}
