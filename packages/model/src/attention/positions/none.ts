/** No position embedding: only the causal mask tells a model about order (https://arxiv.org/abs/2305.19466). */
import { z } from 'zod';
import { definePositionKind } from './position_kind.js';

export const none = definePositionKind({
  headsAlike: true,
  inPython: () => true,
  schema: z.strictObject({ kind: z.literal('none') }),
  shorthand: 'nope',
  parameters: () => ({}),
  toCore: (position) => position,
  decoding: () => ({}),
});
