import fs, { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { readSafetensors } from './index.js';
import { opensslTags, type Tags } from './openssl.js';
import { newSum } from './sum.js';
import { SumThreads } from './sum_threads.js';
import { ThreadedSum } from './threaded_sum.js';

/** A file of 256 MiB, most of which are zeros that lie on no disk. */
const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-sources-'));
const path = join(directory, 'x.safetensors');
const PIECES = 64;
{
  const bytes = PIECES * 2 ** 22;
  const json = Buffer.from(JSON.stringify({ a: { dtype: 'F32', shape: [bytes / 4], data_offsets: [0, bytes] } }));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  const head = Buffer.concat([size, json]);
  writeFileSync(path, head);
  truncateSync(path, head.length + bytes);
  const fd = openSync(path, 'r+');
  for (let at = head.length; at < head.length + bytes; at += 1_000_003)
    writeSync(fd, Buffer.from([at % 251]), 0, 1, at);
  closeSync(fd);
}
afterAll(() => rmSync(directory, { recursive: true }));

const { read } = fs;
afterEach(() => {
  fs.read = read;
  syncBuiltinESMExports();
});

/** Pieces that the main thread has summed, and those that are read once it has summed so many. */
let summedPieces = 0;
const due: (() => void)[] = [];

/** As from a slow disk: a piece comes when the one before it is summed, though four threads wait for them. */
function readsSlowly() {
  type Ended = (error: Error | null, count: number, bytes: Uint8Array) => void;
  const slow = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number, ended: Ended) => {
    const piece = Math.floor(position / 2 ** 22);
    const go = () => read(fd, bytes, offset, length, position, ended);
    if (piece <= summedPieces) go();
    else due[piece] = go;
  };
  fs.read = slow as typeof read;
  syncBuiltinESMExports();
}

const tags = opensslTags();

/** Nothing else goes on in this thread meanwhile. */
const pause = (milliseconds: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);

describe.skipIf(!tags)('a file is summed', () => {
  /** By a main thread that takes so much longer for each piece. */
  async function summed(milliseconds: number) {
    summedPieces = 0;
    const by: Tags = (memory, bytes, two) => {
      if (bytes >= 2 ** 16) due[++summedPieces]?.();
      pause(milliseconds);
      for (const last = performance.now() + 20_000; starts > 0 && !threads.areThere && performance.now() < last; )
        pause(1);
      tags!(memory, bytes, two);
    };
    let starts = 0;
    const threads = new SumThreads(by, 2);
    const start = threads.start.bind(threads);
    threads.start = () => {
      starts++;
      start();
    };
    const file = readSafetensors(path);
    const sum = new ThreadedSum(threads);
    await file.readEach(() => {}, { sum });
    file.close();
    const expected = newSum('poly1305');
    expected.update(fs.readFileSync(path));
    expect(sum.end()).toBe(expected.end());
    return { pieces: summedPieces, starts };
  }

  it('by the main thread alone, and no thread is started, where its pieces come one by one', async () => {
    readsSlowly();
    expect(await summed(0)).toEqual({ pieces: PIECES, starts: 0 });
  });

  it('by threads too, once they are there, where pieces wait for the main thread', async () => {
    const { pieces, starts } = await summed(10);
    expect(starts).toBe(1);
    expect(pieces).toBeGreaterThanOrEqual(16); // what was read ahead at first
    expect(pieces).toBeLessThan(PIECES);
  });
});
