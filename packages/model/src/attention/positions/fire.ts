/** FIRE: a learned function of the distance is added to q·k (https://arxiv.org/abs/2310.04418). */

import { z } from 'zod';
import { count, positive } from '../../bounds.js';
import { constant, ones, parameter, uniform } from '../../parameter.js';
import { definePositionKind } from './position_kind.js';

export const fire = definePositionKind({
  inPython: () => true,
  schema: z.strictObject({
    kind: z.literal('fire'),
    /** Hidden units of the function. */
    width: count(2 ** 16).default(32),
    /** The smallest length, in tokens, that distances are divided by; a learned factor multiplies it. */
    initialThreshold: positive().default(512),
  }),
  shorthand: 'fire',

  parameters({ width }, { numHeads }) {
    // torch's default for a linear layer: uniform within ±1/√inputs.
    const [first, second] = [uniform(1), uniform(1 / Math.sqrt(width))];
    return {
      w1: parameter('self_attn.fire.w1.weight', [width, 1], first),
      b1: parameter('self_attn.fire.w1.bias', [width], first),
      w2: parameter('self_attn.fire.w2.weight', [numHeads, width], second),
      b2: parameter('self_attn.fire.w2.bias', [numHeads], second),
      c: parameter('self_attn.fire.c', [1], constant(0.1)),
      thresholdMultiplier: parameter('self_attn.fire.threshold_multiplier', [1], ones),
    };
  },

  toCore: ({ initialThreshold }, parameters) => ({ kind: 'fire', initialThreshold, parameters }),
});
