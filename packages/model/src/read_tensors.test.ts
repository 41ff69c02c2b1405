import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseSeed, generator } from '@stickbreaking/base';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensors } from './index.js';
import { opensslTags } from './openssl.js';
import { readTensors } from './read_tensors.js';
import { ALGORITHMS, newSum, type Sum, sumMadeLater } from './sum.js';
import { SumThreads } from './sum_threads.js';
import { ThreadedSum } from './threaded_sum.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-read-tensors-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'x.safetensors');
const random = generator(chooseSeed(), 'read tensors');

/** Tensors of random bytes, of those types in turn; their names are in the order of the file, the header's is another. */
function write(lengths: readonly number[], dtypes = ['F32', 'F16', 'BF16']): void {
  let at = 0;
  const claims = lengths.map((length, i) => {
    const dtype = dtypes[i % dtypes.length]!;
    const begin = at;
    at += length * (dtype === 'F32' ? 4 : 2);
    return [String.fromCharCode(97 + i), { dtype, shape: [length], data_offsets: [begin, at] }];
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(claims.reverse())));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  const block = Uint8Array.from({ length: 2 ** 16 + 1 }, () => 256 * random());
  const data = Uint8Array.from({ length: at }, (_, i) => block[i % block.length]! & 0x3f); // no infinite numbers
  writeFileSync(path, Buffer.concat([size, json, data]));
}

const tags = opensslTags();
const threads = tags && new SumThreads(tags, 2);
/** What may sum a file: the main thread, threads while it goes on, or whoever has the time. */
const summers: [algorithm: (typeof ALGORITHMS)[number], make: () => Sum][] = [
  ...ALGORITHMS.map((one): (typeof summers)[number] => [one, () => newSum(one)]),
  ...(threads ? [0, 2 ** 23] : []).map((ahead): (typeof summers)[number] => [
    'poly1305',
    () => sumMadeLater(() => new ThreadedSum(threads!, ahead)),
  ]),
];

const kinds: [string, (() => Sum)?][] = [
  ['no sum'],
  ...summers.map(([algorithm, make], i): [string, () => Sum] => [
    [algorithm, algorithm, 'by threads', 'by both'][i]!,
    make,
  ]),
];

const sumOf = (algorithm: (typeof ALGORITHMS)[number]) => {
  const sum = newSum(algorithm);
  sum.update(readFileSync(path));
  return sum.end();
};

describe('tensors read by threads', () => {
  it.each([
    ['no', []],
    ['empty', [0, 0, 0]],
    ['small', [1, 2, 3, 0, 5]],
    ['many', Array.from({ length: 200 }, (_, i) => i)],
    ['just a piece', [2 ** 20, 2 ** 21, 2 ** 21]],
    ['more than a piece', [2 ** 20 + 1, 2 ** 21 + 1, 2 ** 21 - 1, 7]],
    ['more than is read ahead', [9_000_001, 3, 1_000_001]],
    ['random', Array.from({ length: 20 }, () => Math.floor(2 ** (21 * random())))],
  ])('are the same: %s', async (_, lengths) => {
    write(lengths);
    const file = readSafetensors(path);
    const all = [...file.names].reverse();
    for (const [algorithm, make] of [[], ...summers]) {
      for (const only of [undefined, (name: string) => name.charCodeAt(0) % 2 === 0, () => false]) {
        const sum = make?.();
        const names: string[] = [];
        const take = (name: string, values: Float32Array) => {
          names.push(name);
          const expected = file.read(name);
          const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
            Buffer.from(buffer, byteOffset, byteLength);
          expect(bytes(values).equals(bytes(expected)), `${name} of ${lengths}`).toBe(true);
        };
        await file.readEach(take, { ...(only ? { only } : {}), sum });
        expect(names.filter((name) => file.shape(name)[0]! > 0)).toEqual(
          all.filter((name) => file.shape(name)[0]! > 0 && (only?.(name) ?? true)),
        );
        expect(names.sort()).toEqual(all.filter(only ?? (() => true)).sort());
        if (algorithm) expect(sum!.end(), `${algorithm} of ${lengths}`).toBe(sumOf(algorithm));
      }
    }
    file.close();
  });

  it.each([undefined, ...summers.map(([, make]) => make)])(
    'are refused where the file ends while it is read',
    async (_, make) => {
      write([3_000_000, 5, 3_000_000]);
      const file = readSafetensors(path);
      truncateSync(path, readFileSync(path).length - 1);
      const names: string[] = [];
      await expect(file.readEach((name) => names.push(name), { sum: make?.() })).rejects.toThrow(
        `${path} ended while it was being read.`,
      );
      expect(names).toEqual(['a', 'b']);
      file.close();
    },
  );

  it.each(kinds)('end with what went wrong with one of them, when no thread reads any more: %s', async (_, make) => {
    write([3_000_000, 3_000_000, 3_000_000]);
    const file = readSafetensors(path);
    const take = () => {
      throw new Error('no memory for it');
    };
    await expect(file.readEach(take, { sum: make?.() })).rejects.toThrow('no memory for it');
    file.close();
    // Threads that sum may have been given its number meanwhile.
    if (make === undefined) await expect(file.readEach(() => {})).rejects.toThrow(/EBADF/);
  });
});

it.skipIf(process.platform !== 'linux')('the file is named that the system cannot read', async () => {
  const memory = '/proc/self/mem'; // of whose first page there is none: EIO
  const fd = openSync(memory, 'r');
  try {
    const reading = readTensors(
      fd,
      memory,
      new Map([['a', { dtype: 'F32' as const, shape: [3], begin: 0, end: 12 }]]),
      () => {},
      {},
    );
    await expect(reading).rejects.toThrow(`cannot read ${memory}: input/output error`);
  } finally {
    closeSync(fd);
  }
});
