// Several processes of a run inside one, for tests.
import { addN, type Tensor } from '@tensorflow/tfjs-core';
import type { Collective } from './collective.js';

/** Members of one run inside this process: a sum is there as soon as the last one has come with its part. */
export function together(size: number): Collective[] {
  const meetings: { parts: unknown[][]; meet(parts: unknown[][]): void; all: Promise<unknown[][]> }[] = [];
  const calls = new Array(size).fill(0);
  const exchange = async <T>(rank: number, part: readonly T[]): Promise<T[][]> => {
    const number = calls[rank]++;
    meetings[number] ??= (() => {
      let meet!: (parts: unknown[][]) => void;
      const all = new Promise<unknown[][]>((resolve) => {
        meet = resolve;
      });
      return { parts: [], meet, all };
    })();
    const { parts, meet, all } = meetings[number];
    parts[rank] = [...part];
    if (Object.keys(parts).length === size) meet(parts);
    return (await all) as T[][];
  };
  return Array.from({ length: size }, (_, rank) => ({
    rank,
    size,
    sumNumbers: async (numbers) => {
      const parts = await exchange(rank, numbers);
      return numbers.map((_, i) => parts.reduce((sum, one) => sum + one[i]!, 0));
    },
    sumTensors: async (tensors) => {
      const parts = await exchange(rank, tensors);
      const sums = tensors.map((_, i) => addN(parts.map((one) => one[i]!)) as Tensor);
      await exchange(rank, []); // nobody's part goes before everybody has read it
      for (const one of tensors) one.dispose();
      return sums;
    },
  }));
}
