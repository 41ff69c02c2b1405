/** No positions: a token tells what stands before it by the causal mask alone (https://arxiv.org/abs/2305.19466). */
import { z } from 'zod';
import { definePositionKind } from './position_kind.js';

export const none = definePositionKind({
  schema: z.strictObject({ kind: z.literal('none') }),
  shorthand: 'nope',
  parameters: () => ({}),
  toCore: (position) => position,
});
