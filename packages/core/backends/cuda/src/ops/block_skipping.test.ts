import { expect, it } from 'vitest';
import { cuda } from '../index.js';
import { blockSkippingBy } from './block_skipping.js';
import { FAR } from './flash_far.js';
import { LEVELS } from './flash_levels.js';

it('gathers rows that look far unless told otherwise', () => {
  for (const unset of [undefined, ''])
    expect(blockSkippingBy(unset)).toEqual({ blockSkipping: true, levels: LEVELS, farRows: FAR });
  expect(blockSkippingBy('blocks')).toEqual({ blockSkipping: true, levels: undefined, farRows: undefined });
  expect(blockSkippingBy('0')).toEqual({ blockSkipping: false, levels: undefined, farRows: undefined });
});

it('refuses what it does not know', () => {
  for (const text of ['1', 'off', 'Blocks', 'false'])
    expect(() => blockSkippingBy(text)).toThrow(
      `STICKBREAKING_BLOCK_SKIPPING is '${text}'; expected 'blocks', '0' or nothing.`,
    );
});

it('refuses it before another backend is taken in its place', async () => {
  process.env.STICKBREAKING_BLOCK_SKIPPING = 'levels';
  try {
    await expect(cuda.probe()).rejects.toThrow("STICKBREAKING_BLOCK_SKIPPING is 'levels'; expected");
  } finally {
    delete process.env.STICKBREAKING_BLOCK_SKIPPING;
  }
});
