/**
 * Threads that sum pieces of memory where they lie: a thread is told an address and gives back two tags, so nothing is
 * transferred or copied. Pieces are begun in the order in which they are handed over, by whoever is free; the main thread,
 * which waits for no thread to start, takes those that wait too long.
 */
import { availableParallelism } from 'node:os';
import { isMainThread, Worker } from 'node:worker_threads';
import { koffiPath, loadKoffi } from '@stickbreaking/base/node';
import { opensslTags, type Tags, tagsWith } from './openssl.js';
import { BLOCK_BYTES, ofTags, PART_KEY, type Part } from './poly1305.js';

/** Where the main thread and the four threads that read have processors of their own, and these too. */
const LEAST_PROCESSORS = 8;
/** One thread sums some 5 GB/s that others have just written, and four read about as fast. */
const THREADS = 2;
/** So many pieces may wait for each thread before the main thread sums one itself. */
const WAITING = 2;
/** Pieces that are not yet settled, at most; it divides 2^32, as numbers of pieces begin anew there. */
const PLACES = 64;
/** After so long without a piece a thread ends. */
const IDLE_MILLISECONDS = 1000;
/** A thread that takes so long for a piece, of a millisecond, has been ended by someone, or will not come back. */
const PATIENCE_MILLISECONDS = 10_000;

/** So long the end of the process waits for its threads, at most. */
const END_MILLISECONDS = 2000;

/** What they share: who counts what, which threads run, of each place what is to be summed, whether it is done, and the two tags. */
interface Board {
  counters: Int32Array;
  runs: Int32Array;
  done: Int32Array;
  pieces: BigInt64Array;
  tags: Uint8Array;
}
/** In `counters`: pieces that were handed over, those that were begun, threads that are there, and whether they are to end. */
const POSTED = 0;
const BEGUN = 1;
const READY = 2;
const ENDS = 3;
/** In `done`. */
const NOT_YET = 0;
const SUMMED = 1;
const FAILED = 2;

/** A piece that was handed over. */
export interface Posted {
  readonly blocks: number;
  /** The memory, until it is summed: nobody may free it before. */
  bytes?: Uint8Array;
  part?: Part;
  /** How many were handed over before it. */
  readonly number: number;
}

/**
 * Takes the next piece that nobody has begun: its place. This function and the next are handed to threads as text, so they
 * use nothing but their arguments.
 */
function takenFrom({ counters, done }: Board): number | undefined {
  for (;;) {
    const next = Atomics.load(counters, 1);
    if (next === Atomics.load(counters, 0)) return undefined;
    if (Atomics.compareExchange(counters, 1, next, (next + 1) | 0) === next) return (next >>> 0) % done.length;
  }
}

function serve(tagsOf: Tags, board: Board, taken: typeof takenFrom, idleMilliseconds: number): void {
  const { counters, done, pieces, tags } = board;
  Atomics.add(counters, 2, 1);
  while (Atomics.load(counters, 3) === 0) {
    const posted = Atomics.load(counters, 0);
    const place = taken(board);
    if (place === undefined) {
      if (Atomics.wait(counters, 0, posted, idleMilliseconds) === 'timed-out') break;
      continue;
    }
    let state = 1;
    try {
      tagsOf(pieces[2 * place]!, Number(pieces[2 * place + 1]), tags.subarray(32 * place, 32 * place + 32));
    } catch {
      state = 2;
    }
    Atomics.store(done, place, state);
    Atomics.notify(done, place);
  }
  Atomics.sub(counters, 2, 1);
}

const THREAD = `
const { koffi, key, board, idleMilliseconds, thread } = require('node:worker_threads').workerData;
try {
  if (Atomics.load(board.counters, ${ENDS}) === 0) {
    const tagsOf = (${tagsWith.toString()})(require(koffi), key);
    (${serve.toString()})(tagsOf, board, ${takenFrom.toString()}, idleMilliseconds);
  }
} finally {
  Atomics.store(board.runs, thread, 0);
  Atomics.notify(board.runs, thread);
}
`;

export class SumThreads {
  private readonly board: Board;
  /** What lies at each place, and keeps its memory. */
  private readonly places: (Posted | undefined)[] = [];
  private readonly own = new Uint8Array(32);
  private readonly address = loadKoffi().address;
  private readonly threads: (Worker | undefined)[] = [];
  /** Once a thread was lost, the main thread sums all; what the thread may still read is never freed. */
  private lost: Posted[] | undefined;

  /**
   * @param tags by which the main thread sums
   * @param count of threads
   * @param options `koffi` is what the threads load in place of it
   */
  constructor(
    private readonly tags: Tags,
    private readonly count: number,
    private readonly options: { idleMilliseconds?: number; patienceMilliseconds?: number; koffi?: string } = {},
  ) {
    this.board = {
      counters: new Int32Array(new SharedArrayBuffer(16)),
      runs: new Int32Array(new SharedArrayBuffer(4 * count)),
      done: new Int32Array(new SharedArrayBuffer(4 * PLACES)),
      pieces: new BigInt64Array(new SharedArrayBuffer(16 * PLACES)),
      tags: new Uint8Array(new SharedArrayBuffer(32 * PLACES)),
    };
  }

  /** Whether one waits for pieces. */
  get areThere(): boolean {
    return !this.lost && Atomics.load(this.board.counters, READY) > 0;
  }

  /** So many pieces were handed over until now. */
  get handedOver(): number {
    return Atomics.load(this.board.counters, POSTED) >>> 0;
  }

  /** Starts those that have ended. Nobody has to wait for them, and they keep no process alive. */
  start(): void {
    if (this.lost) return;
    const { idleMilliseconds = IDLE_MILLISECONDS } = this.options;
    const { runs } = this.board;
    for (let thread = 0; thread < this.count; thread++) {
      if (this.threads[thread]) continue;
      Atomics.store(runs, thread, 1);
      try {
        this.options.koffi ??= koffiPath();
        const workerData = { thread, koffi: this.options.koffi, key: PART_KEY, board: this.board, idleMilliseconds };
        this.threads[thread] = this.watched(thread, new Worker(THREAD, { eval: true, execArgv: [], workerData }));
      } catch {
        Atomics.store(runs, thread, 0); // the system has no more threads
      }
    }
    process.off('exit', this.end).on('exit', this.end);
  }

  private watched(thread: number, worker: Worker): Worker {
    worker.unref();
    worker.on('error', () => {}); // without it, the others sum, or the main thread does
    return worker.on('exit', () => {
      Atomics.store(this.board.runs, thread, 0);
      this.threads[thread] = undefined;
      if (!this.threads.some(Boolean)) process.off('exit', this.end);
    });
  }

  /**
   * Before the process ends, its threads do: Node would stop them wherever they are, and where that is within koffi, as
   * while it is loaded, the process is aborted.
   */
  private readonly end = (): void => {
    const { counters, runs } = this.board;
    Atomics.store(counters, ENDS, 1);
    const last = performance.now() + END_MILLISECONDS;
    for (let thread = 0; thread < this.count && performance.now() < last; ) {
      Atomics.notify(counters, POSTED); // again, as one may have been about to wait
      if (Atomics.wait(runs, thread, 1, 5) !== 'timed-out') thread++;
    }
  };

  /** Hands a whole number of blocks over. They must not change before the piece is settled. */
  post(bytes: Uint8Array): Posted {
    const { counters, done, pieces } = this.board;
    const number = Atomics.load(counters, POSTED);
    const place = (number >>> 0) % PLACES;
    const before = this.places[place];
    if (before) this.settle(before);
    if (this.lost) return { number, blocks: bytes.length / BLOCK_BYTES, part: this.sum(bytes) };
    const piece: Posted = { number, bytes, blocks: bytes.length / BLOCK_BYTES };
    this.places[place] = piece;
    pieces[2 * place] = this.address(bytes);
    pieces[2 * place + 1] = BigInt(bytes.length);
    Atomics.store(done, place, NOT_YET);
    Atomics.store(counters, POSTED, (number + 1) | 0);
    Atomics.notify(counters, POSTED, 1);
    const most = WAITING * Atomics.load(counters, READY);
    while (((number + 1 - Atomics.load(counters, BEGUN)) | 0) > most && this.help());
    return piece;
  }

  /** What a piece gives, if it is summed. */
  partOf(piece: Posted): Part | undefined {
    if (!piece.part) {
      const place = (piece.number >>> 0) % PLACES;
      const state = Atomics.load(this.board.done, place);
      if (state === SUMMED) this.summed(piece, this.board.tags.slice(32 * place, 32 * place + 32));
      else if (state === FAILED) this.summed(piece);
    }
    return piece.part;
  }

  /** The same, once it is: whoever waits sums what nobody has begun. */
  settle(piece: Posted): Part {
    const place = (piece.number >>> 0) % PLACES;
    const { patienceMilliseconds = PATIENCE_MILLISECONDS } = this.options;
    for (let part: Part | undefined; ; ) {
      part = this.partOf(piece);
      if (part) return part;
      if (this.lost) this.summed(piece);
      else if (!this.help() && Atomics.wait(this.board.done, place, NOT_YET, patienceMilliseconds) === 'timed-out')
        this.lost = this.places.flatMap((one) => (one && !one.part ? [{ ...one }] : []));
    }
  }

  /** Sums the next piece that nobody has begun, here and now. @returns false where there is none */
  private help(): boolean {
    const place = takenFrom(this.board);
    if (place === undefined) return false;
    this.summed(this.places[place]!);
    Atomics.store(this.board.done, place, SUMMED);
    return true;
  }

  private summed(piece: Posted, tags?: Uint8Array): void {
    piece.part = tags ? ofTags(tags, piece.blocks) : this.sum(piece.bytes!);
    delete piece.bytes;
  }

  /** Sums a whole number of blocks here and now. */
  sum(bytes: Uint8Array): Part {
    this.tags(bytes, bytes.length, this.own);
    return ofTags(this.own, bytes.length / BLOCK_BYTES);
  }
}

let shared: SumThreads | undefined;

/** The process's threads; undefined where the main thread sums as well by itself, and in a thread, which may be ended any time. */
export function sumThreads(): SumThreads | undefined {
  if (!isMainThread || availableParallelism() < LEAST_PROCESSORS) return undefined;
  if (typeof SharedArrayBuffer === 'undefined') return undefined; // Node 20 can be told to have none
  if (!shared) {
    const tags = opensslTags();
    if (!tags) return undefined;
    shared = new SumThreads(tags, THREADS);
  }
  return shared;
}

/** How many pieces of files this process has handed to threads that sum, so far: of checkpoints on hosts of many processors. */
export const piecesHandedOver = (): number => shared?.handedOver ?? 0;
