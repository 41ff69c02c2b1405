// Sums of what travels in bfloat16 between processes, of which each is played here after the others, as often as messages build on
// each other: in the last round all have been told what the others give.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addRounded, borderOf, ownRoundedSum, roundTo, sumRounded } from './rounded_sums.js';

type Exchange = Parameters<typeof sumRounded>[0];

/** What each process has after `run`. */
function played<T>(size: number, run: (mpi: Exchange) => T): T[] {
  const sent: Uint8Array[][] = [];
  const memory = new Map<string, ArrayBuffer>();
  let results: T[] = [];
  for (let round = 0; round < 3; round++)
    results = Array.from({ length: size }, (_, rank) => {
      let calls = 0;
      const buffers: ArrayBuffer[] = [];
      const at = (bytes: number, which: number) => {
        const key = `${rank} ${bytes} ${which}`;
        const buffer = memory.get(key) ?? new ArrayBuffer(bytes);
        memory.set(key, buffer);
        return { address: BigInt(buffers.push(buffer) - 1), buffer };
      };
      const bytesAt = (address: bigint) => new Uint8Array(buffers[Number(address)]!);
      const exchange = (from: bigint, own: number, take: (from: number, given: Uint8Array) => void) => {
        const call = calls++;
        sent[call] ??= [];
        sent[call]![rank] = bytesAt(from).slice(0, own);
        sent[call]!.forEach((given, other) => {
          take(other, given);
        });
      };
      return run({
        ...{ rank, size },
        floats: (length, which = 0) => {
          const { address, buffer } = at(4 * Math.max(1, length), which);
          return { address, values: new Float32Array(buffer, 0, length) };
        },
        halves: (length, which = 0) => {
          const { address, buffer } = at(4 * Math.ceil(length / 2) || 4, which);
          return { address, values: new Uint16Array(buffer, 0, length) };
        },
        exchangeNow: (from, to, bytes) =>
          exchange(from, bytes * size, (other, given) =>
            bytesAt(to).set(given.subarray(rank * bytes, (rank + 1) * bytes), other * bytes),
          ),
        gatherNow: (from, to, count) =>
          exchange(from, 4 * count, (other, given) => bytesAt(to).set(given, other * 4 * count)),
      });
    });
  return results;
}

const halvesOf = (...values: number[]) => {
  const rounded = new Uint16Array(values.length);
  roundTo(rounded, Float32Array.from(values));
  return rounded;
};
const rounded = (x: number) => addRounded(halvesOf(x), 1, 1)[0]!;

describe('numbers are rounded to the nearest bfloat16', () => {
  it.each([
    [1 + 2 ** -8, 1], // halfway: to even
    [1 + 3 * 2 ** -8, 1 + 2 ** -6],
    [1 + 2 ** -8 + 2 ** -20, 1 + 2 ** -7],
    [-0, -0],
    [3.4e38, Infinity],
    [-3.4e38, -Infinity],
    [Infinity, Infinity],
    [NaN, NaN],
    [2 ** -133, 2 ** -133], // the least that there is
    [2 ** -134, 0], // half of it
    [3 * 2 ** -135, 2 ** -133],
  ])('%d', (x, want) => {
    expect(rounded(x)).toBe(want);
  });

  it('and what is no number stays that, whichever bits say so', () => {
    const values = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff).buffer);
    const halves = new Uint16Array(4);
    roundTo(halves, values);
    expect([...addRounded(halves, 4, 4)].every(Number.isNaN)).toBe(true);
  });
});

const size = fc.integer({ min: 1, max: 8 });
const length = fc.integer({ min: 1, max: 40 });
const seed = fc.integer({ min: 0, max: 1000 });

function checkSums(processes: number, count: number, start: number): void {
  const given = Array.from({ length: processes }, (_, rank) =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(start + 7 * i + rank) * 10 ** ((i + rank) % 9)),
  );
  const lists = given.map((one) => one.map(rounded));
  const want = lists.slice(1).reduce((sum, one) => sum.map((x, i) => x + one[i]!), lists[0]!);
  const own = played(processes, (mpi) => ownRoundedSum(mpi, given[mpi.rank], count));
  expect(own.flatMap((part) => [...part])).toEqual([...want]);
  own.forEach((part, rank) => {
    expect(part).toHaveLength(borderOf(count, rank + 1, processes) - borderOf(count, rank, processes));
  });
  const whole = played(processes, (mpi) => {
    const { values } = mpi.floats(count);
    values.set(given[mpi.rank]!);
    sumRounded(mpi, values);
    return values.slice();
  });
  for (const one of whole) expect(one).toEqual(want);
  // Against float64, where nothing is rounded: each is off by one in 256 at most, and the additions by far less.
  for (const [i, x] of want.entries()) {
    const exact = given.reduce((sum, one) => sum + one[i]!, 0);
    const sizes = given.reduce((sum, one) => sum + Math.abs(one[i]!), 0);
    expect(Math.abs(x - exact)).toBeLessThanOrEqual(sizes * (2 ** -8 + 2 ** -20));
  }
}

it('sums are those in float32, in the order of the processes', () => {
  fc.assert(fc.property(size, length, seed, checkSums));
});

it('none are none', () => {
  for (const one of played(2, (mpi) => ownRoundedSum(mpi, new Float32Array(0), 0))) expect(one).toHaveLength(0);
});

it('a process without a gradient adds nothing', () => {
  const sums = played(2, (mpi) => ownRoundedSum(mpi, mpi.rank === 1 ? Float32Array.of(1, 2, 3) : undefined, 3));
  expect(sums.map((one) => [...one])).toEqual([[1], [2, 3]]);
});
