/**
 * Tensors read in the order in which a file has them, by the system's threads, some pieces ahead. Most of the time of
 * reading goes into new memory, page by page, which several threads get at once; who waits for a piece has the time to sum it
 * while it lies in the caches.
 */
import { read } from 'node:fs';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { type Entry, float32Of } from './safetensors_format.js';
import type { Sum } from './sum.js';

/** A thread is asked for so many bytes at once. */
const PIECE_BYTES = 2 ** 22;
/** So much is asked for before it is needed: a piece for each of Node's four threads, and more while V8 collects garbage. */
export const AHEAD_BYTES = 16 * PIECE_BYTES;
/**
 * Tensors share memory of this size, and it is given back when none of them is needed any more. V8 collects garbage whenever
 * some 32 MB of arrays were made, and with each tensor's own memory that took most of this thread's time.
 */
const SHARED_BYTES = 2 ** 28;
/** Of small tensors so many. */
const PIECES_AHEAD = 32;

/** Options of `SafetensorsFile.readEach`. */
export interface ReadEachOptions {
  /** Which tensors to read; default: all. */
  only?: (name: string) => boolean;
  /** Is given all bytes of the file in their order, for which all tensors are read; default: nothing is summed. */
  sum?: Sum | undefined;
}

/** A part of a tensor, or all of it. */
interface Piece {
  bytes: Uint8Array;
  /** Where it begins in the file. */
  position: number;
  /** What is done with the whole tensor once its last piece is there. */
  end?: () => void;
}

/**
 * @param take is given the numbers of each tensor, widened to float32, which must not change before this ends: they may still
 *   be being summed
 * @param head what comes before the tensors, for `sum`
 * @throws UserError where the file ends early or the system cannot read it
 */
export async function readTensors(
  fd: number,
  path: string,
  entries: ReadonlyMap<string, Entry>,
  take: (name: string, values: Float32Array) => void,
  { only = () => true, sum }: ReadEachOptions,
  head: readonly Uint8Array[] = [],
): Promise<void> {
  const pieces = piecesOf(entries, take, only, sum !== undefined);
  const coming: { piece: Piece; read: Promise<void> }[] = [];
  let ahead = 0;
  let waiting = 0;
  const ask = () => {
    while (ahead < AHEAD_BYTES && coming.length < PIECES_AHEAD) {
      const { value: piece } = pieces.next();
      if (!piece) return;
      const read = fill(fd, piece, path).then(() => {
        waiting += piece.bytes.length;
      });
      read.catch(() => {}); // awaited in its turn
      coming.push({ piece, read });
      ahead += piece.bytes.length;
    }
  };
  try {
    ask();
    for (const bytes of head) sum?.update(bytes); // the first is what it gets ready for, while the threads read
    for (; coming.length > 0; ask()) {
      const { piece, read } = coming[0]!;
      await read;
      if (sum?.countsWaiting) await othersThatHaveCome();
      coming.shift();
      ahead -= piece.bytes.length;
      waiting -= piece.bytes.length;
      ask(); // the threads have something to do while this one sums
      sum?.update(piece.bytes, waiting);
      piece.end?.();
    }
  } finally {
    // After a fault nobody may close the file, whose number could be another's then, before the threads are done with it.
    await Promise.allSettled(coming.map(({ read }) => read));
    sum?.settle?.();
  }
}

/** Node tells of one piece, and what waits for it goes on at once, though others may have come too: it tells of those first. */
const othersThatHaveCome = () => new Promise((resolve) => setImmediate(resolve));

function* piecesOf(
  entries: ReadonlyMap<string, Entry>,
  take: (name: string, values: Float32Array) => void,
  only: (name: string) => boolean,
  all: boolean,
): Generator<Piece, undefined> {
  const inOrder = [...entries].toSorted(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  const memoryOf = sharedMemory(inOrder.filter(([name]) => only(name)).map(([, { begin, end }]) => end - begin));
  for (const [name, { dtype, begin, end }] of inOrder) {
    const isWanted = only(name);
    if (!isWanted && !all) continue;
    // Of what only the sum is wanted, each piece has memory of its own, which goes with it.
    const whole = isWanted ? memoryOf(end - begin) : undefined;
    let position = begin;
    do {
      const next = Math.min(position + PIECE_BYTES, end);
      const bytes = whole?.subarray(position - begin, next - begin) ?? memory(next - position);
      const isLast = next === end;
      yield { bytes, position, ...(whole && isLast ? { end: () => take(name, float32Of(dtype, whole)) } : {}) };
      position = next;
    } while (position < end);
  }
}

async function fill(fd: number, { bytes, position }: Piece, path: string): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const moved = await new Promise<number>((resolve, reject) => {
      read(fd, bytes, done, bytes.length - done, position + done, (error, count) =>
        error ? reject(explainSystemError(error, `cannot read ${path}`)) : resolve(count),
      );
    });
    if (moved === 0) throw new UserError(`${path} ended while it was being read.`);
    done += moved;
  }
}

/**
 * Memory for one tensor after another.
 *
 * @param lengths of all that will be asked for, in that order
 */
function sharedMemory(lengths: readonly number[]): (length: number) => Uint8Array {
  let left = lengths.reduce((total, length) => total + aligned(length), 0);
  let shared = memory(0);
  let used = 0;
  return (length) => {
    const bytes = aligned(length);
    if (used + bytes > shared.length) {
      shared = memory(Math.max(bytes, Math.min(SHARED_BYTES, left)));
      used = 0;
    }
    const own = shared.subarray(used, used + length);
    used += bytes;
    left -= bytes;
    return own;
  };
}

/** Where the next tensor may begin: no two of them are in one line of a cache. */
const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64;

/** Memory that is written to by threads first, and by this one not at all: zeros would be a first use of each page. */
const memory = (length: number): Uint8Array => Buffer.allocUnsafeSlow(length);
