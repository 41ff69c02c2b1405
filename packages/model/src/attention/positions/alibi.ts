/** ALiBi: a penalty on q·k that grows with the distance, by a fixed slope for each head (https://arxiv.org/abs/2108.12409). */
import { alibiSlopes } from '@stickbreaking/core';
import { z } from 'zod';
import { definePositionKind } from './position_kind.js';

export const alibi = definePositionKind({
  schema: z.strictObject({ kind: z.literal('alibi') }),
  shorthand: 'alibi',
  parameters: () => ({}),
  toCore: (position) => position,
  decoding: (_, { numHeads }) => ({ alibiSlopes: Float32Array.from(alibiSlopes(numHeads)) }),
});
