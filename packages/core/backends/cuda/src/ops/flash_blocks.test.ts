import { expect, it } from 'vitest';
import {
  BACKWARD,
  BACKWARD_KEYS,
  BACKWARD_QUERIES,
  DIMENSIONS,
  FAR_BLOCKS,
  FAR_KEYS,
  FAR_QUERIES,
  FORWARD,
  leastStick,
  NEAR_BLOCKS,
  sharedBytes,
} from './flash_blocks.js';

it('stops a row where its stick is 2^-20 with block skipping, and only below 2^-31 without', () => {
  expect(leastStick(true)).toBe(2 ** -20);
  // Values 256 times those before them, at a stick of that length: below an eighth of what bfloat16 rounds off.
  expect(256 * leastStick(true)).toBeLessThanOrEqual(2 ** -9 / 8);
  expect(leastStick(false)).toBe(2 ** -32);
});

it('keeps every block within the shared memory of the oldest GPU served, and of Hopper', () => {
  // Bytes that one block may have: compute capability 8.6 and 8.9, and 9.0 (CUDA programming guide, technical specifications).
  for (const kernel of [FORWARD, BACKWARD_QUERIES, BACKWARD_KEYS])
    for (const dim of DIMENSIONS)
      for (const bias of ['none', 'fire', 'keys'] as const) {
        const bytes = (hopper: boolean) => sharedBytes(kernel, { mechanism: 'softmax', bias, dim, hopper });
        expect(bytes(true), `${kernel.name} ${dim} ${bias}`).toBeLessThanOrEqual(227 * 1024);
        if (dim < 128) expect(bytes(false), `${kernel.name} ${dim} ${bias}`).toBeLessThanOrEqual(99 * 1024);
      }
  for (const dim of [32, 64])
    expect(
      sharedBytes(BACKWARD, { mechanism: 'softmax', bias: 'none', dim, hopper: true }),
      `${dim}`,
    ).toBeLessThanOrEqual(227 * 1024);
  for (const kernel of [FAR_QUERIES, FAR_KEYS])
    expect(
      sharedBytes(kernel, { mechanism: 'stick-breaking', bias: 'none', dim: 64, hopper: true }),
      kernel.name,
    ).toBeLessThanOrEqual(227 * 1024);
  // Blocks of a level share a multiprocessor, of whose memory the system has 1 KB a block.
  for (const [rows, blocks] of [
    ['near', NEAR_BLOCKS],
    ['far', FAR_BLOCKS],
  ] as const)
    for (const dim of [32, 64]) {
      const variant = { mechanism: 'stick-breaking', bias: 'none', dim, hopper: true, rows } as const;
      expect(blocks * (sharedBytes(FORWARD, variant) + 1024), `${rows} ${dim}`).toBeLessThanOrEqual(228 * 1024);
    }
  // FIRE's sums lie there besides: of as many units as it may have.
  const fire = { mechanism: 'softmax', bias: 'fire', dim: 128, hopper: true } as const;
  expect(sharedBytes(BACKWARD_QUERIES, fire, 32)).toBeLessThanOrEqual(227 * 1024);
});
