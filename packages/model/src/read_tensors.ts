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
/** So much is asked for before it is needed: a piece for each of Node's four threads, and one more that waits for it. */
const AHEAD_BYTES = 8 * PIECE_BYTES;
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
 * @param options `sum` is given what comes after the header
 * @throws UserError where the file ends early or the system cannot read it
 */
export async function readTensors(
  fd: number,
  path: string,
  entries: ReadonlyMap<string, Entry>,
  take: (name: string, values: Float32Array) => void,
  { only = () => true, sum }: ReadEachOptions,
): Promise<void> {
  const pieces = piecesOf(entries, take, only, sum !== undefined);
  const coming: { piece: Piece; read: Promise<void> }[] = [];
  let ahead = 0;
  const ask = () => {
    while (ahead < AHEAD_BYTES && coming.length < PIECES_AHEAD) {
      const { value: piece } = pieces.next();
      if (!piece) return;
      const read = fill(fd, piece, path);
      read.catch(() => {}); // awaited in its turn
      coming.push({ piece, read });
      ahead += piece.bytes.length;
    }
  };
  try {
    for (ask(); coming.length > 0; ask()) {
      const { piece, read } = coming[0]!;
      await read;
      coming.shift();
      ahead -= piece.bytes.length;
      ask(); // the threads have something to do while this one sums
      sum?.update(piece.bytes);
      piece.end?.();
    }
  } finally {
    // After a fault nobody may close the file, whose number could be another's then, before the threads are done with it.
    await Promise.allSettled(coming.map(({ read }) => read));
    sum?.settle?.();
  }
}

function* piecesOf(
  entries: ReadonlyMap<string, Entry>,
  take: (name: string, values: Float32Array) => void,
  only: (name: string) => boolean,
  all: boolean,
): Generator<Piece, undefined> {
  const inOrder = [...entries].toSorted(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  for (const [name, { dtype, begin, end }] of inOrder) {
    const isWanted = only(name);
    if (!isWanted && !all) continue;
    // Of what only the sum is wanted, each piece has memory of its own, which goes with it.
    const whole = isWanted ? memory(end - begin) : undefined;
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

/** Memory that is written to by threads first, and by this one not at all: zeros would be a first use of each page. */
const memory = (length: number): Uint8Array => Buffer.allocUnsafeSlow(length);
