/** A file's Poly1305, of which threads sum pieces where the main thread is too slow for it. */
import { BLOCK_BYTES, joined, NOTHING, ofBlock, type Part, tagOf } from './poly1305.js';
import { AHEAD_BYTES } from './read_tensors.js';
import type { Sum } from './sum.js';
import type { Posted, SumThreads } from './sum_threads.js';

/** Less is summed at once: it takes less time than to tell a thread. */
const SMALL_BYTES = 2 ** 16;

/** So many pieces of a fast source threads are given before the main thread tries again by itself. */
const HANDED_OVER = 128;

/** A sum whose pieces threads may still read after `update`: they must not change before `settle` or `end`. */
export class ThreadedSum implements Sum {
  private all: Part = NOTHING;
  /** What follows `all`, in the order of the file. */
  private following: (Posted | Part)[] = [];
  /** The beginning of a block, of which the rest is still to come. */
  private readonly block = new Uint8Array(BLOCK_BYTES);
  private bytes = 0;
  /** Of the pieces that follow so many are handed over. */
  private toHandOver: number;

  /** @param ahead so many bytes at most are read before they are given to `update`; zero: all pieces are handed over */
  constructor(
    private readonly threads: SumThreads,
    private readonly ahead: number = AHEAD_BYTES,
  ) {
    this.toHandOver = threads.areThere ? HANDED_OVER : 0; // for a file that was read just before
  }

  get countsWaiting(): boolean {
    return this.toHandOver === 0;
  }

  update(bytes: Uint8Array, waiting = 0): void {
    const isHandedOver = this.isHandedOver(bytes.length, waiting);
    const begun = this.bytes % BLOCK_BYTES;
    this.bytes += bytes.length;
    let from = 0;
    if (begun > 0) {
      from = Math.min(BLOCK_BYTES - begun, bytes.length);
      this.block.set(bytes.subarray(0, from), begun);
      if (begun + from < BLOCK_BYTES) return;
      this.following.push(ofBlock(this.block));
    }
    const to = bytes.length - ((bytes.length - from) % BLOCK_BYTES);
    const blocks = bytes.subarray(from, to);
    if (isHandedOver) this.following.push(this.threads.post(blocks));
    else if (blocks.length > 0) this.following.push(this.threads.sum(blocks));
    this.block.set(bytes.subarray(to));
    this.join();
  }

  /**
   * The main thread sums what a disk brings while it waits for the next piece anyway: pieces come one by one then, or
   * several after V8 collected garbage. Where half of what is read ahead waits, those that read have nothing to do soon, and
   * threads sum; they are not started before. What has come first does not count: meanwhile OpenSSL's functions were found.
   */
  private isHandedOver(bytes: number, waiting: number): boolean {
    if (this.toHandOver === 0 && waiting >= this.ahead / 2 && this.bytes >= this.ahead) {
      this.threads.start(); // also those that were idle for too long since, as while a tensor was taken
      this.toHandOver = HANDED_OVER;
    }
    if (bytes < SMALL_BYTES || this.toHandOver === 0) return false;
    this.toHandOver--;
    return true;
  }

  settle(): void {
    for (const one of this.following) if ('number' in one) this.threads.settle(one);
    this.join();
  }

  end(): string {
    this.settle();
    const rest = this.bytes % BLOCK_BYTES;
    if (rest > 0) this.all = joined(this.all, ofBlock(this.block.fill(0, rest)));
    return tagOf(this.all, this.bytes);
  }

  /** Joins what is summed by now. */
  private join(): void {
    let done = 0;
    for (const one of this.following) {
      const part = 'number' in one ? this.threads.partOf(one) : one;
      if (!part) break;
      this.all = joined(this.all, part);
      done++;
    }
    if (done > 0) this.following = this.following.slice(done);
  }
}
