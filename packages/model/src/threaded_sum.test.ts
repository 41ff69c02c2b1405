import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { chooseSeed, generator } from '@stickbreaking/base';
import { koffiPath, loadKoffi } from '@stickbreaking/base/node';
import { describe, expect, it } from 'vitest';
import { opensslTags, type Tags, tagsWith } from './openssl.js';
import { joined, NOTHING, ofBlock, ofTags, PART_KEY, tagOf } from './poly1305.js';
import { newSum, type Sum } from './sum.js';
import { SumThreads } from './sum_threads.js';
import { ThreadedSum } from './threaded_sum.js';

const random = generator(chooseSeed(), 'threaded sum');
const below = (most: number) => Math.floor(random() * most);
/** Bytes of all ones make the largest blocks: sums that come near the modulus. */
const bytesOf = (length: number, kind = below(4)) =>
  Buffer.allocUnsafeSlow(length).map(() => [0, 0xff, below(2) * 0xff, below(256)][kind]!);

const expected = (bytes: Uint8Array) => summed(newSum('poly1305'), [bytes]);
function summed(sum: Sum, pieces: readonly Uint8Array[]): string {
  for (const piece of pieces) sum.update(piece);
  return sum.end();
}

/** The bytes in pieces, some of them empty or a single byte. */
function cut(bytes: Uint8Array, most: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let from = 0; from < bytes.length || below(2) === 0; ) {
    const to = from + (below(4) === 0 ? below(2) : below(most));
    pieces.push(bytes.subarray(from, to));
    from = Math.min(to, bytes.length);
  }
  return pieces;
}

// Without the functions, everything is summed by `createCipheriv`, as on few processors.
const tags = opensslTags();

describe.skipIf(!tags)('Poly1305 by threads', () => {
  it('is there under Node, as its binary has the functions', () => expect(tags).toBeDefined());

  it('of parts is that of the whole', () => {
    for (let round = 0; round < 300; round++) {
      const bytes = bytesOf(below(2) * below(2000));
      const two = new Uint8Array(32);
      let all = NOTHING;
      const whole = bytes.length - (bytes.length % 16);
      for (let from = 0; from < whole; ) {
        const to = Math.min(whole, from + 16 * (1 + below(20)));
        const part = bytes.subarray(from, to);
        tags!(part, part.length, two);
        const one = ofTags(two, part.length / 16);
        if (part.length === 16) expect(one).toEqual(ofBlock(part));
        all = joined(all, one);
        from = to;
      }
      if (whole < bytes.length)
        all = joined(all, ofBlock(Buffer.concat([bytes.subarray(whole), Buffer.alloc(16)], 16)));
      expect(tagOf(all, bytes.length), Buffer.from(bytes).toString('hex')).toBe(expected(bytes));
    }
  });

  it.each([0, 1, 3])('is the same with %i threads, however the file is cut', async (count) => {
    const threads = new SumThreads(tags!, count);
    threads.start();
    for (let round = 0; round < 20; round++) {
      if (round === 5) await after(200); // those before had no threads yet, mostly
      const large = round % 4 === 0;
      const bytes = bytesOf(below(large ? 2 ** 23 : 2 ** 20));
      const pieces = cut(bytes, large ? 2 ** 22 : 2 ** 18);
      const sums = [new ThreadedSum(threads, 0), new ThreadedSum(threads, 0)];
      for (const piece of pieces) for (const sum of sums) sum.update(piece);
      if (round % 2 === 0) for (const sum of sums) sum.settle();
      for (const sum of sums) expect(sum.end()).toBe(expected(bytes));
    }
  });

  it('is the same whatever waits behind a piece, with pieces handed over or not', async () => {
    for (let round = 0; round < 20; round++) {
      const threads = new SumThreads(tags!, 1);
      const sum = new ThreadedSum(threads, below(2 ** 20));
      const bytes = bytesOf(below(2 ** 22));
      for (const piece of cut(bytes, 2 ** 18)) {
        sum.update(piece, below(2 ** 20));
        if (below(10) === 0) await after(below(20));
      }
      expect(sum.end()).toBe(expected(bytes));
    }
  });

  it('may be left, and what follows is right', () => {
    const threads = new SumThreads(tags!, 1);
    threads.start();
    const bytes = bytesOf(2 ** 18, 3);
    for (let i = 0; i < 100; i++) new ThreadedSum(threads, 0).update(bytes);
    expect(summed(new ThreadedSum(threads, 0), [bytes, bytes])).toBe(expected(Buffer.concat([bytes, bytes])));
  });

  it('begins anew where the threads have ended', async () => {
    const threads = new SumThreads(tags!, 1, { idleMilliseconds: 1 });
    const bytes = bytesOf(2 ** 20, 3);
    for (let i = 0; i < 3; i++) {
      threads.start();
      await after(150);
      expect(summed(new ThreadedSum(threads, 0), [bytes])).toBe(expected(bytes));
    }
  });
});

describe.skipIf(!tags)('threads', () => {
  it('that have ended while a tensor was taken are started again in the same file', async () => {
    const threads = new SumThreads(tags!, 1, { idleMilliseconds: 1 });
    const piece = bytesOf(2 ** 16, 3);
    const sum = new ThreadedSum(threads, 2 ** 17);
    let starts = 0;
    const start = threads.start.bind(threads);
    threads.start = () => {
      starts++;
      start();
    };
    for (let i = 0; i < 300; i++) sum.update(piece, 2 ** 17); // more waits always
    expect(sum.end()).toBe(expected(Buffer.concat(Array.from({ length: 300 }, () => piece))));
    expect(starts).toBe(3);
  });

  const counted = () => {
    const calls: number[] = [];
    const by: Tags = (memory, bytes, two) => {
      calls.push(bytes);
      tags!(memory, bytes, two);
    };
    return { calls, by };
  };
  const piece = bytesOf(2 ** 22, 3);
  const pieces = Array.from({ length: 20 }, () => piece);
  const sum = expected(Buffer.concat(pieces));

  it('sum a part of it', async () => {
    for (let wait = 20; ; wait *= 2) {
      const { calls, by } = counted();
      const threads = new SumThreads(by, 1);
      threads.start();
      await after(wait);
      expect(summed(new ThreadedSum(threads, 0), pieces)).toBe(sum);
      if (calls.length < pieces.length) break;
      expect(wait, 'milliseconds, and no thread has come').toBeLessThan(10_000);
    }
  });

  it.each([
    ['do not come', 'throw new Error("not for this system")', true],
    ['cannot sum', 'signature.includes("update") ? () => 0 : library.func(signature)', false],
  ])('leave it to the main thread where they %s', async (_, how, never) => {
    const path = join(mkdtempSync(join(tmpdir(), 'stickbreaking-koffi-')), 'koffi.cjs');
    const func = never ? 'undefined' : `(signature) => ${how}`;
    writeFileSync(
      path,
      `${never ? how : ''};
const koffi = require(${JSON.stringify(koffiPath())});
module.exports = { load: (path) => { const library = koffi.load(path); return { func: ${func} }; } };`,
    );
    const { calls, by } = counted();
    const threads = new SumThreads(by, 2, { koffi: path });
    threads.start();
    await after(300);
    expect(summed(new ThreadedSum(threads, 0), pieces)).toBe(sum);
    expect(calls.length).toBe(pieces.length);
    rmSync(dirname(path), { recursive: true });
  });
});

describe.skipIf(!tags)('a thread', () => {
  it.each([0, 100])('ends before the process does, which ends %i ms after it was started', async (wait) => {
    const threads = new SumThreads(tags!, 2, { idleMilliseconds: 60_000 });
    threads.start();
    const end = process.listeners('exit').at(-1) as () => void;
    const listening = () => process.listeners('exit').filter((one) => one === end).length; // threads of other tests end meanwhile
    threads.start();
    await after(wait);
    expect(listening()).toBe(1);
    const begin = performance.now();
    end();
    expect(performance.now() - begin).toBeLessThan(1900); // else it did not wait for the threads, but for the longest time
    while (listening() > 0) await after(10);
  });

  const loaded =
    'const koffi = require(process.env.KOFFI); const stop = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);';
  const standIn = (func: string) => {
    const path = join(mkdtempSync(join(tmpdir(), 'stickbreaking-koffi-')), 'koffi.cjs');
    const load = `(path) => { const library = koffi.load(path); return { func: (signature) => ${func} }; }`;
    writeFileSync(
      path,
      `${loaded.replace('process.env.KOFFI', JSON.stringify(koffiPath()))} module.exports = { load: ${load} };`,
    );
    return path;
  };
  const pieces = Array.from({ length: 150 }, (_, i) => bytesOf(2 ** 16 + 16 * i, 3));
  const sum = expected(Buffer.concat(pieces));

  it.each([
    ['does not come back', 'stop'],
    ['ends', '() => process.exit(1)'],
  ])('that %s with a piece is waited for, and then not any more', async (_, what) => {
    const path = standIn(`signature.includes('update') ? ${what} : library.func(signature)`);
    const threads = new SumThreads(tags!, 2, { koffi: path, patienceMilliseconds: 200 });
    threads.start();
    while (!threads.areThere) await after(10);
    // Until one of them was quick enough to be given a piece, and the main thread waited for it.
    while (threads.areThere) expect(summed(new ThreadedSum(threads, 0), pieces)).toBe(sum);
    for (let i = 0; i < 3; i++) {
      const begin = performance.now();
      expect(summed(new ThreadedSum(threads, 0), pieces)).toBe(sum);
      expect(performance.now() - begin).toBeLessThan(200);
    }
    rmSync(dirname(path), { recursive: true });
  });
});

describe('a Node without the functions', () => {
  const koffi = loadKoffi();
  const without = (name: string, result?: unknown) => ({
    ...koffi,
    load: (path: null) => {
      const library = koffi.load(path);
      const func = (signature: string) => {
        if (!signature.includes(name)) return library.func(signature);
        if (result === undefined) throw new Error('cannot find function');
        return () => result;
      };
      return { ...library, func };
    },
  });
  it.each<[string, unknown]>([
    ['EVP_MAC_update', undefined],
    ['EVP_MAC_fetch', null],
    ['EVP_MAC_CTX_new', null],
  ])('is found out before anything is summed: %s', (name, result) => {
    expect(() => tagsWith(without(name, result) as unknown as typeof koffi, PART_KEY)).toThrow();
  });
  it.skipIf(!tags).each<[string, unknown]>([
    ['EVP_MAC_init', 0],
    ['EVP_MAC_update', 0],
    ['EVP_MAC_CTX_dup', null],
    ['EVP_MAC_final', 0],
  ])('says when it does not sum: %s', (name, result) => {
    const broken = tagsWith(without(name, result) as unknown as typeof koffi, PART_KEY);
    expect(() => broken(new Uint8Array(16), 16, new Uint8Array(32))).toThrow('OpenSSL does not sum');
  });
});
