import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensors, sumFiles, writeSafetensors } from './index.js';

const directory = mkdtempSync(join(tmpdir(), 'stickbreaking-safetensors-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'x.safetensors');

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
    ['small', 1000],
    ['large', 10_000_000],
  ])('sums a %s file while it writes it', async (_, length) => {
    const values = Float32Array.from({ length }, (_, i) => i % 1009);
    const tensors = ['a', 'b'].map((name) => ({ name, shape: [length], values: () => values }));
    expect(writeSafetensors(path, tensors)).toBeUndefined();
    expect(writeSafetensors(path, tensors, { checksum: true })).toEqual((await sumFiles([path]))[0]);
    const failing = [...tensors, { name: 'c', shape: [9], values: () => values }];
    expect(() => writeSafetensors(path, failing, { checksum: true })).toThrow(/its shape needs 9/);
    expect(readdirSync(directory)).toEqual(['x.safetensors']);
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
