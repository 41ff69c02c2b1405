/** Rotary embedding on the C++ library. Every layer uses the same angles, so the last sines and cosines are kept. */

import type { RowPositions } from '@stickbreaking/core/backend';
import { sameValues } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { type NativeKernels, sizeOf } from './backend.js';
import { nativeFunction, unheard } from './library.js';

const tablesSignature =
  'void sb_rotary_tables(int64_t rows, int64_t half, void *positions, void *starts, void *inverseFrequencies, void *cosines, void *sines)';

interface Tables {
  key: readonly (Int32Array | Float64Array)[];
  cosines: Float32Array;
  sines: Float32Array;
}

/** Newest first. Queries and keys have separate tables if there is a cache of keys. */
let kept: Tables[] = [];

export function rotaryTables(
  half: number,
  { cuSeqlens, firstPositions }: RowPositions,
  inverseFrequencies: Float64Array,
): Tables {
  const key = [cuSeqlens, firstPositions, inverseFrequencies];
  const found = kept.find((one) => one.key.every((values, i) => sameValues(values, key[i]!)));
  if (found) return found;
  const rows = cuSeqlens[cuSeqlens.length - 1]!;
  const positions = new Int32Array(rows);
  const starts = new Int32Array(rows);
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    for (let row = cuSeqlens[s]!; row < cuSeqlens[s + 1]!; row++) {
      positions[row] = firstPositions[s]! + row - cuSeqlens[s]!;
      starts[row] = inverseFrequencies.length > half ? s * half : 0;
    }
  }
  const cosines = new Float32Array(rows * half);
  const sines = new Float32Array(rows * half);
  nativeFunction(tablesSignature)(rows, half, positions, starts, inverseFrequencies, cosines, sines);
  const made = { key: key.map((values) => values.slice()), cosines, sines };
  kept = [made, ...kept.slice(0, 1)];
  return made;
}

interface Angles {
  inverseFrequencies: Float64Array;
  positions: number;
  cosines: Float32Array;
  sines: Float32Array;
}
let angles: Angles | undefined;

/** Cosines and sines of at least so many positions from 0, [positions, headDim/2]; they stay until others are asked for. */
export function anglesOfPositions(positions: number, inverseFrequencies: Float64Array): Angles {
  if (angles && angles.positions >= positions && sameValues(angles.inverseFrequencies, inverseFrequencies))
    return angles;
  const half = inverseFrequencies.length;
  const count = 2 ** Math.ceil(Math.log2(Math.max(256, positions)));
  const [cosines, sines] = [new Float32Array(count * half), new Float32Array(count * half)];
  const all = Int32Array.from({ length: count }, (_, i) => i);
  unheard(() =>
    nativeFunction(tablesSignature)(count, half, all, new Int32Array(count), inverseFrequencies, cosines, sines),
  );
  angles = { inverseFrequencies: inverseFrequencies.slice(), positions: count, cosines, sines };
  return angles;
}

export const rotaryKernels = {
  RotaryEmbedding({ q, k }, { queries, keys, inverseFrequencies, inverse }, { read, make, allocate }) {
    const run = nativeFunction(
      'void sb_rotary(int64_t rows, int64_t heads, int64_t headDim, void *cosines, void *sines, float direction, void *x, void *y)',
    );
    const turn = (x: TensorInfo, positions: RowPositions) => {
      const [rows, heads, headDim] = x.shape as [number, number, number];
      const { cosines, sines } = rotaryTables(headDim / 2, positions, inverseFrequencies);
      const y = allocate(sizeOf(x));
      run(rows, heads, headDim, cosines, sines, inverse ? -1 : 1, read(x), y);
      return make(x.shape, 'float32', y);
    };
    return [turn(q, queries), turn(k, keys)];
  },
} satisfies NativeKernels;
