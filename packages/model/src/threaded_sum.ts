/** A file's Poly1305 while threads sum its pieces. */
import { BLOCK_BYTES, joined, NOTHING, ofBlock, type Part, tagOf } from './poly1305.js';
import type { Sum } from './sum.js';
import type { Posted, SumThreads } from './sum_threads.js';

/** Less is summed at once: it takes less time than to tell a thread. */
const SMALL_BYTES = 2 ** 16;

/** A sum whose pieces threads may still read after `update`: they must not change before `settle` or `end`. */
export class ThreadedSum implements Sum {
  private all: Part = NOTHING;
  /** What follows `all`, in the order of the file. */
  private following: (Posted | Part)[] = [];
  /** The beginning of a block, of which the rest is still to come. */
  private readonly block = new Uint8Array(BLOCK_BYTES);
  private bytes = 0;

  constructor(private readonly threads: SumThreads) {
    threads.start();
  }

  update(bytes: Uint8Array): void {
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
    if (blocks.length >= SMALL_BYTES) this.following.push(this.threads.post(blocks));
    else if (blocks.length > 0) this.following.push(this.threads.sum(blocks));
    this.block.set(bytes.subarray(to));
    this.join();
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
