/** ALiBi: a penalty on q·k that grows with the distance, by a fixed slope for each head (https://arxiv.org/abs/2108.12409). */
import { alibiSlopes } from '@stickbreaking/core';
import { z } from 'zod';
import { definePositionKind } from './position_kind.js';

export const alibi = definePositionKind({
  inPython: () => true,
  schema: z.strictObject({ kind: z.literal('alibi') }),
  shorthand: 'alibi',
  parameters: () => ({}),
  toCore: (position) => position,
  decoding: (_, { numHeads }) => ({ alibiSlopes: slopesOf(numHeads) }),
});

/** The same array every time: a backend uploads it once. */
const slopes = new Map<number, Float32Array>();

function slopesOf(numHeads: number): Float32Array {
  const known = slopes.get(numHeads) ?? Float32Array.from(alibiSlopes(numHeads));
  slopes.set(numHeads, known);
  return known;
}
