// What is too much for one call of MPI's, whose counts are 32-bit, goes in pieces, and from process to process.

import { UserError } from '@stickbreaking/base';

/** A single call moves at most so many elements. */
export const PIECE = 2 ** 26;

/** Where the pieces of so many elements begin, and how many each has. @throws UserError where there cannot be so many */
export function* piecesOf(length: number, piece: number): Generator<{ at: number; count: number }> {
  if (!Number.isSafeInteger(length) || length < 0)
    throw new UserError(`${length} elements were to go between processes, which is no whole number from 0 on.`);
  for (let at = 0; at < length; at += piece) yield { at, count: Math.min(piece, length - at) };
}

/** Gives so many elements of memory to the process `target`, and takes as many from `source`. */
export type Swap = (from: bigint, to: bigint, count: number, target: number, source: number) => void;

interface Place {
  rank: number;
  size: number;
}

/** In every round each process gives to one and takes from one, itself first, so that none waits for two. */
function* rounds({ rank, size }: Place): Generator<{ target: number; source: number }> {
  for (let by = 0; by < size; by++) yield { target: (rank + by) % size, source: (rank - by + size) % size };
}

/** As `MPI_Alltoall`: `from` has `each` elements for every process, in order, and `to` then `each` of every one. */
export function exchangeByPairs(
  place: Place,
  from: bigint,
  to: bigint,
  each: number,
  bytesOfOne: number,
  swap: Swap,
): void {
  const part = (process: number) => BigInt(process * each * bytesOfOne);
  for (const { target, source } of rounds(place)) swap(from + part(target), to + part(source), each, target, source);
}

/** As `MPI_Allgather`: `from` has `each` elements for all processes, and `to` then `each` of every one, in order. */
export function gatherByPairs(
  place: Place,
  from: bigint,
  to: bigint,
  each: number,
  bytesOfOne: number,
  swap: Swap,
): void {
  for (const { target, source } of rounds(place))
    swap(from, to + BigInt(source * each * bytesOfOne), each, target, source);
}
