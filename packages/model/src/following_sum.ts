/**
 * The sum of a file while it is being written: a thread reads it again close behind the writer, so that what is summed
 * is what a reader would get, and the writer hardly waits. The two agree over shared memory, as the writer never yields.
 */
import { readSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { type Algorithm, newSum, PIECE_BYTES, SUM_IN_THREAD } from './sum.js';

/** Places in the shared memory; the sum follows them, as text of so many characters. */
const WRITTEN = 0;
const DONE = 1;
const LENGTH = 2;
const TEXT = 3;
const MOST_CHARACTERS = 64;
/** In place of the bytes written: no sum is wanted. What is less is −2 − the bytes, where no more will come. */
const UNWANTED = -1n;
/** In place of the bytes done: the sum is there; the file cannot be read. */
const ENDED = -1n;
const FAILED = -2n;

const THREAD = `${SUM_IN_THREAD}
const { workerData: { file, shared, algorithm } } = require('node:worker_threads');
const words = new BigInt64Array(shared, 0, ${TEXT});
const buffer = Buffer.allocUnsafeSlow(${PIECE_BYTES});
const sum = newSum(algorithm);
const tell = (done) => {
  Atomics.store(words, ${DONE}, done);
  Atomics.notify(words, ${DONE});
};
for (let done = 0; ; ) {
  const word = Atomics.load(words, ${WRITTEN});
  if (word === ${UNWANTED}n) break;
  const written = Number(word < 0n ? -2n - word : word);
  if (written === done && word >= 0n) {
    Atomics.wait(words, ${WRITTEN}, word);
    continue;
  }
  if (written === done) {
    Atomics.store(words, ${LENGTH}, BigInt(Buffer.from(shared, ${8 * TEXT}).write(sum.end())));
    tell(${ENDED}n);
    break;
  }
  let read = 0;
  try {
    read = fs.readSync(file, buffer, 0, Math.min(buffer.length, written - done), done);
  } catch {}
  if (read === 0) {
    tell(${FAILED}n);
    break;
  }
  sum.update(buffer.subarray(0, read));
  done += read;
  tell(BigInt(done));
}
`;

/** A thread that does nothing for so long will not: where it could not be started. */
const STALLED_MS = 10_000;

export class FollowingSum {
  private readonly shared = new SharedArrayBuffer(8 * TEXT + MOST_CHARACTERS);
  private readonly words = new BigInt64Array(this.shared, 0, TEXT);
  private bytes = 0;

  /** @param file open for reading and writing, until `end` or `stop` */
  constructor(
    private readonly file: number,
    private readonly algorithm: Algorithm,
  ) {
    try {
      const thread = new Worker(THREAD, { eval: true, workerData: { file, shared: this.shared, algorithm } });
      thread.on('error', () => {}); // `end` notices
      thread.unref();
    } catch {
      Atomics.store(this.words, DONE, FAILED);
    }
  }

  /** So many bytes more have been written. */
  wrote(bytes: number): void {
    this.bytes += bytes;
    this.say(BigInt(this.bytes));
  }

  /** The sum of all that was written. @throws the system's error where the file cannot be read */
  end(): string {
    this.say(-2n - BigInt(this.bytes));
    let done = Atomics.load(this.words, DONE);
    while (done >= 0n) {
      const waited = Atomics.wait(this.words, DONE, done, STALLED_MS);
      const now = Atomics.load(this.words, DONE);
      if (waited === 'timed-out' && now === done) break;
      done = now;
    }
    this.stop();
    if (done !== ENDED) return sumOfOpenFile(this.file, this.algorithm);
    return Buffer.from(this.shared, 8 * TEXT, Number(Atomics.load(this.words, LENGTH))).toString();
  }

  /** Lets the thread end, also where nobody asks for the sum. */
  stop(): void {
    this.say(UNWANTED);
  }

  private say(word: bigint): void {
    Atomics.store(this.words, WRITTEN, word);
    Atomics.notify(this.words, WRITTEN);
  }
}

function sumOfOpenFile(file: number, algorithm: Algorithm): string {
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  const sum = newSum(algorithm);
  let done = 0;
  for (let read = 1; read > 0; done += read) {
    read = readSync(file, buffer, 0, buffer.length, done);
    sum.update(buffer.subarray(0, read));
  }
  return sum.end();
}
