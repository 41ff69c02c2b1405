/**
 * The CRC-32 of a file while it is being written: a thread reads it again close behind the writer, so that what is summed
 * is what a reader would get, and the writer hardly waits. The two agree over shared memory, as the writer never yields.
 */
import { readSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { crc32 } from 'node:zlib';

/** Places in the shared memory. */
const WRITTEN = 0;
const DONE = 1;
const SUM = 2;
/** In place of the bytes written or done: no more will come, the file cannot be read. */
const OVER = -1n;

// As text, since a bundle is one file and a thread needs one of its own.
const THREAD = `
const { readSync } = require('node:fs');
const { workerData: { file, shared } } = require('node:worker_threads');
const { crc32 } = require('node:zlib');
const words = new BigInt64Array(shared);
const buffer = Buffer.allocUnsafeSlow(2 ** 22);
let [done, sum] = [0, 0];
for (;;) {
  const written = Atomics.load(words, ${WRITTEN});
  if (written < 0n) break;
  if (written === BigInt(done)) {
    Atomics.wait(words, ${WRITTEN}, written);
    continue;
  }
  let read = 0;
  try {
    read = readSync(file, buffer, 0, Math.min(buffer.length, Number(written) - done), done);
  } catch {}
  sum = crc32(buffer.subarray(0, read), sum);
  done = read > 0 ? done + read : -1;
  Atomics.store(words, ${SUM}, BigInt(sum));
  Atomics.store(words, ${DONE}, BigInt(done));
  Atomics.notify(words, ${DONE});
  if (done < 0) break;
}
`;

/** A thread that does nothing for so long will not: where it could not be started. */
const STALLED_MS = 10_000;

export class FollowingSum {
  private readonly words = new BigInt64Array(new SharedArrayBuffer(3 * BigInt64Array.BYTES_PER_ELEMENT));
  private bytes = 0;

  /** @param file open for reading and writing, until `end` or `stop` */
  constructor(private readonly file: number) {
    try {
      const thread = new Worker(THREAD, { eval: true, workerData: { file, shared: this.words.buffer } });
      thread.on('error', () => {}); // `end` notices
      thread.unref();
    } catch {
      Atomics.store(this.words, DONE, OVER);
    }
  }

  /** So many bytes more have been written. */
  wrote(bytes: number): void {
    this.bytes += bytes;
    Atomics.store(this.words, WRITTEN, BigInt(this.bytes));
    Atomics.notify(this.words, WRITTEN);
  }

  /** The sum of all that was written. @throws the system's error where the file cannot be read */
  end(): number {
    const total = BigInt(this.bytes);
    let done = Atomics.load(this.words, DONE);
    while (done >= 0n && done < total) {
      const waited = Atomics.wait(this.words, DONE, done, STALLED_MS);
      const now = Atomics.load(this.words, DONE);
      if (waited === 'timed-out' && now === done) break;
      done = now;
    }
    this.stop();
    return done === total ? Number(Atomics.load(this.words, SUM)) : sumOfOpenFile(this.file);
  }

  /** Lets the thread end, also where nobody asks for the sum. */
  stop(): void {
    Atomics.store(this.words, WRITTEN, OVER);
    Atomics.notify(this.words, WRITTEN);
  }
}

function sumOfOpenFile(file: number): number {
  const buffer = Buffer.allocUnsafeSlow(2 ** 22);
  let [done, sum] = [0, 0];
  for (let read = 1; read > 0; done += read) {
    read = readSync(file, buffer, 0, buffer.length, done);
    sum = crc32(buffer.subarray(0, read), sum);
  }
  return sum;
}
