import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseSeed, generator } from '@stickbreaking/base';
import { afterAll, describe, expect, it } from 'vitest';
import { checksumsOf, readSafetensors, verifyChecksums, writeSafetensors, writeSafetensorsAsync } from './index.js';
import { newSum } from './sum.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-safetensors-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'x.safetensors');
const random = generator(chooseSeed(), 'tensors');

function write(header: unknown, data: number, length?: bigint): void {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(length ?? BigInt(json.length));
  writeFileSync(path, Buffer.concat([size, json, Buffer.alloc(data)]));
}

const tensor = (begin: number, end: number, shape: unknown = [(end - begin) / 4], dtype = 'F32') => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe('safetensors', () => {
  it('gives back what was written', () => {
    const a = Float32Array.from([1, -2.5, Number.POSITIVE_INFINITY]);
    writeSafetensors(path, [
      { name: 'a', shape: [3], values: () => a },
      { name: 'empty', shape: [0, 4], values: () => new Float32Array(0) },
    ]);
    const file = readSafetensors(path);
    expect(file.names).toEqual(['a', 'empty']);
    expect(file.read('a')).toEqual(a);
    expect(file.shape('empty')).toEqual([0, 4]);
    file.close();
  });

  it.each([
    ['empty', [0]],
    ['small', [1, 0, 3]],
    ['odd', [1000, 2 ** 21 - 1, 2 ** 21 + 1]],
    ['large', [3_000_000, 1, 4_194_304]],
    ['random', Array.from({ length: 20 }, () => Math.floor(2 ** (21 * random())))],
  ])('writes the same bytes by a thread, and sums a file of %s tensors meanwhile', async (_, lengths) => {
    const values = Float32Array.from({ length: Math.max(...lengths) }, random);
    const tensors = lengths.map((length, i) => {
      return { name: `${i}`, shape: [length], values: () => values.subarray(values.length - length) };
    });
    const metadata = { of: 'a test' };
    writeSafetensors(path, tensors, { metadata });
    const plain = readFileSync(path);
    expect(await writeSafetensorsAsync(path, tensors, { metadata })).toBeUndefined();
    expect(readFileSync(path).equals(plain)).toBe(true);
    const sum = newSum('poly1305');
    sum.update(plain);
    const summed = await writeSafetensorsAsync(path, tensors, { metadata, checksum: true });
    expect(readFileSync(path).equals(plain), `lengths ${lengths}`).toBe(true);
    expect(summed, `lengths ${lengths}`).toEqual({ bytes: plain.length, sum: sum.end() });
  });

  it('has another sum of what was written than of what lies there with one bit turned', async () => {
    const values = Float32Array.from({ length: 2 ** 22 + 5 }, (_, i) => i % 1009);
    const folder = mkdtempSync(join(directory, 'bit-'));
    const file = join(folder, 'model.safetensors');
    const summed = await writeSafetensorsAsync(file, [{ name: 'a', shape: [values.length], values: () => values }], {
      checksum: true,
    });
    const known = new Map([['model.safetensors', summed!]]);
    writeFileSync(join(folder, 'checksums.json'), await checksumsOf(folder, known));
    expect(await verifyChecksums(folder)).toBe(true);
    const bytes = readFileSync(file);
    // On both sides of where one piece that is written ends and the next one begins, and at the file's end.
    for (const at of [2 ** 23 - 1, 2 ** 23, bytes.length - 1]) {
      bytes[at]! ^= 16;
      writeFileSync(file, bytes);
      await expect(verifyChecksums(folder), `byte ${at}`).rejects.toThrow(
        /model\.safetensors is damaged: it is not as/,
      );
      bytes[at]! ^= 16;
    }
    rmSync(folder, { recursive: true });
  });

  it('leaves nothing half written by a thread where a tensor is wrong or the disk is full', async () => {
    const values = new Float32Array(2 ** 22);
    const good = ['a', 'b'].map((name) => ({ name, shape: [values.length], values: () => values }));
    rmSync(path, { force: true });
    for (const checksum of [false, true]) {
      const failing = [...good, { name: 'c', shape: [9], values: () => values }];
      await expect(writeSafetensorsAsync(path, failing, { checksum })).rejects.toThrow(/its shape needs 9/);
      expect(readdirSync(directory)).toEqual([]);
      if (process.platform !== 'linux') continue;
      const full = writeSafetensorsAsync('/dev/full', good, { checksum });
      await expect(full).rejects.toThrow('cannot write /dev/full: the disk is full');
    }
  });

  it('widens half precision exactly', () => {
    const halves = [0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x8000];
    write({ h: tensor(0, 12, [6], 'F16'), b: tensor(12, 16, [2], 'BF16') }, 16);
    const bytes = readFileSync(path);
    for (const [i, half] of halves.entries()) bytes.writeUInt16LE(half, bytes.length - 16 + 2 * i);
    bytes.writeUInt16LE(0x3f80, bytes.length - 4);
    bytes.writeUInt16LE(0xc040, bytes.length - 2);
    writeFileSync(path, bytes);
    const file = readSafetensors(path);
    expect([...file.read('h')]).toEqual([1, -2, 2 ** -24, 1023 * 2 ** -24, 65504, -0]);
    expect([...file.read('b')]).toEqual([1, -3]);
    file.close();
  });

  it.each([
    ['a header of 2^63 bytes', () => write({}, 0, 2n ** 63n), /header claims 9223372036854775808 bytes/],
    ['too few bytes', () => writeFileSync(path, 'abc'), /has 3 bytes/],
    ['no JSON', () => write('{', 0), /not JSON/],
    ['a header that is no object', () => write('[]', 0), /not an object/],
    ['an unknown type', () => write({ a: tensor(0, 4, [1], 'Q8') }, 4), /type "Q8"/],
    ['a type that every object has', () => write({ a: tensor(0, 4, [1], 'constructor') }, 4), /type "constructor"/],
    ['a negative size', () => write({ a: tensor(0, 4, [-1]) }, 4), /no valid shape/],
    [
      'a shape whose product overflows',
      () => write({ a: tensor(0, 4, [2 ** 31, 2 ** 31, 2 ** 31]) }, 4),
      /needs .* bytes/,
    ],
    ['offsets that do not fit the shape', () => write({ a: tensor(0, 8, [1]) }, 8), /needs 4 bytes/],
    ['overlapping tensors', () => write({ a: tensor(0, 8), b: tensor(4, 12) }, 12), /'b' overlaps/],
    ['a gap', () => write({ a: tensor(0, 4), b: tensor(8, 12) }, 12), /4 bytes before tensor 'b'/],
    ['a truncated tensor', () => write({ a: tensor(0, 8) }, 4), /truncated/],
    ['bytes at the end', () => write({ a: tensor(0, 4) }, 9), /5 bytes at its end/],
  ])('refuses %s in one line', (_name, prepare, message) => {
    prepare();
    expect(() => readSafetensors(path)).toThrow(message);
  });
});
