// Sums over processes on CPUs of numbers that travel in bfloat16: each process rounds its own once, and who adds does so in
// float32, in the order of the processes. As the GPUs' (ordered_sums.ts), to the last bit.
import type { Mpi } from './mpi.js';

/** Where a process's part of so many numbers begins. */
export const borderOf = (length: number, rank: number, processes: number): number =>
  Math.floor((length * rank) / processes);

/** The upper half of each float32's bits, rounded to nearest, ties to even; beyond the largest it is infinite. */
export function roundTo(rounded: Uint16Array, values: Float32Array): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const one = bits[i]!;
    // Not a number, which rounding could make infinite.
    rounded[i] = (one & 0x7fffffff) > 0x7f800000 ? (one >>> 16) | 0x40 : (one + 0x7fff + ((one >>> 16) & 1)) >>> 16;
  }
}

/** The first so many numbers of lists of bfloat16, each `stride` long, added in float32 one list after another. */
export function addRounded(lists: Uint16Array, stride: number, count: number): Float32Array {
  const [one, sum] = [new Float32Array(count), new Float32Array(count)];
  const [oneBits, sumBits] = [one, sum].map(({ buffer }) => new Uint32Array(buffer)) as [Uint32Array, Uint32Array];
  for (let i = 0; i < count; i++) sumBits[i] = lists[i]! << 16;
  for (let list = 1; list * stride < lists.length; list++) {
    for (let i = 0; i < count; i++) oneBits[i] = lists[list * stride + i]! << 16;
    for (let i = 0; i < count; i++) sum[i] = sum[i]! + one[i]!;
  }
  return sum;
}

/** What a process needs to exchange. */
type Exchange = Pick<Mpi, 'rank' | 'size' | 'halves' | 'exchangeNow' | 'gatherNow' | 'floats'>;
type Halves = ReturnType<Mpi['halves']>;

/**
 * This process's part (`borderOf`) of the sums of all processes' numbers.
 *
 * @param values undefined where this process adds nothing
 * @param length how many all parts are together
 */
export function ownRoundedSum(mpi: Exchange, values: Float32Array | undefined, length: number): Float32Array {
  const { rank, size } = mpi;
  // As many for each process, of which the last may stay unused.
  const each = Math.ceil(length / size);
  const [given, taken] = [2, 3].map((which) => mpi.halves(each * size, which)) as [Halves, Halves];
  given.values.fill(0);
  for (let to = 0; values && to < size; to++) {
    const part = values.subarray(borderOf(length, to, size), borderOf(length, to + 1, size));
    roundTo(given.values.subarray(to * each), part);
  }
  mpi.exchangeNow(given.address, taken.address, 2 * each);
  return addRounded(taken.values, each, borderOf(length, rank + 1, size) - borderOf(length, rank, size));
}

/** The sums of all processes' numbers, in place: each adds its part, and all get it. */
export function sumRounded(mpi: Exchange, values: Float32Array): void {
  const { size } = mpi;
  const own = ownRoundedSum(mpi, values, values.length);
  const each = Math.ceil(values.length / size);
  const given = mpi.floats(each, 4);
  given.values.set(own);
  const all = mpi.floats(each * size, 5);
  mpi.gatherNow(given.address, all.address, each);
  for (let from = 0; from < size; from++) {
    const [begin, end] = [borderOf(values.length, from, size), borderOf(values.length, from + 1, size)];
    values.set(all.values.subarray(from * each, from * each + end - begin), begin);
  }
}
