/** Tensors as the copy engine of Hopper reads and writes them (CUtensorMap). */
import koffi from 'koffi';
import type { DriverFunction } from './driver_functions.js';
import type { Argument } from './launch.js';

/** CUtensorMap and what is said of it, of cuda.h. */
const TENSOR_MAP_BYTES = 128;
const TENSOR_MAP_ALIGNMENT = 64;
const TENSOR_MAP = {
  bfloat16: 9,
  float32: 7,
  noInterleave: 0,
  swizzle64: 2,
  swizzle128: 3,
  promote256: 3,
  zeroOutside: 0,
};

export class TensorMaps {
  private readonly at: bigint;
  private readonly bytes: Uint8Array;

  constructor(private readonly driver: { call(name: DriverFunction, ...args: unknown[]): void }) {
    const room = koffi.alloc('uint8', TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT) as bigint;
    const alignment = BigInt(TENSOR_MAP_ALIGNMENT);
    this.at = ((room + alignment - 1n) / alignment) * alignment;
    this.bytes = new Uint8Array(koffi.view(this.at, TENSOR_MAP_BYTES));
  }

  /**
   * Boxes of a tensor, by rows of 128 or 64 bytes whose 16-byte pieces are exchanged (128- or 64-byte swizzle), zero outside.
   * Elements lie one after another.
   *
   * @param sizes innermost first, `box` likewise; the innermost size in whole 16 bytes, that of the box 128 or 64 bytes
   */
  encode(
    address: number,
    sizes: readonly number[],
    box: readonly number[],
    type: 'bfloat16' | 'float32' = 'bfloat16',
  ): Argument {
    const dimensions = BigUint64Array.from(sizes, BigInt);
    const strides = new BigUint64Array(sizes.length - 1);
    const each = type === 'bfloat16' ? 2 : 4;
    let bytes = each;
    for (let i = 0; i + 1 < sizes.length; i++) {
      bytes *= sizes[i]!;
      strides[i] = BigInt(bytes);
    }
    const { noInterleave, swizzle64, swizzle128, promote256, zeroOutside } = TENSOR_MAP;
    const swizzle = box[0]! * each === 64 ? swizzle64 : swizzle128;
    const steps = new Uint32Array(sizes.length).fill(1);
    const at = [this.at, TENSOR_MAP[type], sizes.length, address] as const;
    const tiles = [dimensions, strides, Uint32Array.from(box), steps] as const;
    this.driver.call('cuTensorMapEncodeTiled', ...at, ...tiles, noInterleave, swizzle, promote256, zeroOutside);
    return { bytes: this.bytes.slice() };
  }
}
