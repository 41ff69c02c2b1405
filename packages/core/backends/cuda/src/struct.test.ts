import { expect, it } from 'vitest';
import { ATTENTION } from './kernel_interface.js';
import { Struct } from './struct.js';

const mixed = new Struct('Mixed', { count: 'i32', data: 'pointer', scale: 'f32', sizes: ['i64', 2], last: 'i32' });

it('places fields as C++ does: each at a multiple of its own size, the whole at one of the largest', () => {
  expect(mixed.size).toBe(48);
  const view = mixed.array([
    { count: 0, data: 0, scale: 0, sizes: [0, 0], last: 0 },
    { count: -3, data: 0x1234_5678_9abc, scale: 0.75, sizes: [5, -6], last: 7 },
  ]);
  expect(view.byteLength).toBe(96);
  expect(view.getInt32(48, true)).toBe(-3);
  expect(view.getBigUint64(56, true)).toBe(0x1234_5678_9abcn);
  expect(view.getFloat32(64, true)).toBe(0.75);
  expect(view.getBigInt64(72, true)).toBe(5n);
  expect(view.getBigInt64(80, true)).toBe(-6n);
  expect(view.getInt32(88, true)).toBe(7);
});

it("writes the fused attention kernels' arguments in the order of flash.cuh", () => {
  expect(ATTENTION.size).toBe(440);
});
