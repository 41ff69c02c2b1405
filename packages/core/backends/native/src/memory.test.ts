import { expect, it } from 'vitest';
import { ArrayPool } from './memory.js';

it('gives an array out once, and forgets the lengths not used of late beyond its limit', () => {
  const pool = new ArrayPool();
  const arrays = [0, 1].map(() => pool.take(5000));
  for (const one of arrays) pool.give(one);
  const again = [0, 1, 2].map(() => pool.take(5000));
  expect(new Set(again).size).toBe(3);
  expect(arrays.every((one) => again.includes(one))).toBe(true);

  const old = pool.take(6000);
  const large = Array.from({ length: 16 }, () => pool.take(2 ** 22)); // as much as the pool may hold
  for (const one of [old, ...large]) pool.give(one);
  expect(pool.take(6000)).not.toBe(old);
  expect(large).toContain(pool.take(2 ** 22));
});

it('does not take in views of a larger array', () => {
  const pool = new ArrayPool();
  const view = new Float32Array(8192).subarray(0, 4096);
  pool.give(view);
  expect(pool.take(4096)).not.toBe(view);
});

it('gives zeros from what it holds, too', () => {
  const pool = new ArrayPool();
  const used = pool.take(5000).fill(7);
  pool.give(used);
  const zeros = pool.takeZeros(5000);
  expect(zeros).toBe(used);
  expect(zeros.every((value) => value === 0)).toBe(true);
  const fresh = pool.takeZeros(5000);
  expect(fresh).not.toBe(used);
  expect(fresh.every((value) => value === 0)).toBe(true);
});
