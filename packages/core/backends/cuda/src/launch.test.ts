/** Arguments are where the driver looks for them: behind one pointer each, whatever the launch before had there. */
import koffi from 'koffi';
import { expect, it } from 'vitest';
import { type Argument, f32, i32, i64, LaunchMemory, pointer } from './launch.js';

const memory = new LaunchMemory();

/** The first bytes of each argument, through the pointers. */
function read(args: readonly Argument[]): DataView[] {
  const pointers = new BigUint64Array(koffi.view(BigInt(memory.writeArguments(args)), 8 * args.length));
  return [...pointers].map((address) => new DataView(koffi.view(address, 8)));
}

it('holds numbers of every kind, negative and large ones too', () => {
  const [a, b, c, d] = read([pointer(2 ** 46 + 5), i32(-7), f32(0.5), i64(-(2 ** 40) - 3)]);
  expect(a!.getBigUint64(0, true)).toBe(2n ** 46n + 5n);
  expect(b!.getInt32(0, true)).toBe(-7);
  expect(c!.getFloat32(0, true)).toBe(0.5);
  expect(d!.getBigInt64(0, true)).toBe(-(2n ** 40n) - 3n);
});

it('holds structs beside each other, and numbers in their places afterwards', () => {
  const struct = (value: number) => ({ bytes: new Uint8Array(100).fill(value) });
  const [a, b, c] = read([struct(1), i32(9), struct(2)]);
  expect([a, b, c].map((one) => one!.getUint8(0))).toEqual([1, 9, 2]);
  expect(read([i64(3), i32(4), i32(5)]).map((one) => one.getInt32(0, true))).toEqual([3, 4, 5]);
});

it('takes as many arguments as have room, and no more', () => {
  const many = Array.from({ length: 65 }, (_, i) => i32(i));
  expect(read(many.slice(0, 64)).map((one) => one.getInt32(0, true))).toEqual(Array.from({ length: 64 }, (_, i) => i));
  expect(() => memory.writeArguments(many)).toThrow('a kernel has 65 arguments, and 64 have room.');
  expect(read([i32(7), i32(8)]).map((one) => one.getInt32(0, true))).toEqual([7, 8]);
});
