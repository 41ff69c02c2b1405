/** SwiGLU (https://arxiv.org/abs/2002.05202): down(silu(gate(x)) · up(x)), without biases. */

import { linear, linears, swiGlu as swiGluOp } from '@stickbreaking/core';
import { count } from '../bounds.js';
import { readKey } from '../huggingface_keys.js';
import { normal, parameter } from '../parameter.js';
import { defineFeedForwardKind } from './feed_forward_kind.js';

export const swiGlu = defineFeedForwardKind({
  /** Width of gate and up. */
  schema: count(2 ** 22),

  parameters(intermediateSize, { hiddenSize, initializerRange }) {
    const initial = normal(initializerRange);
    return {
      gate: parameter('mlp.gate_proj.weight', [intermediateSize, hiddenSize], initial),
      up: parameter('mlp.up_proj.weight', [intermediateSize, hiddenSize], initial),
      down: parameter('mlp.down_proj.weight', [hiddenSize, intermediateSize], initial),
    };
  },

  forward(x, { gate, up, down }, _setting, { precision }) {
    const [gated, raised] = linears(x, [gate, up], { precision });
    return linear(swiGluOp(gated, raised, { readBy: precision }), down, { precision });
  },

  savedPerToken: (intermediateSize, { hiddenSize }) => 2 * hiddenSize + 3 * intermediateSize,

  // gate and up, the gradient of their product, and their own
  backwardPerToken: (intermediateSize, { hiddenSize }) => 3 * hiddenSize + 5 * intermediateSize,

  toHuggingFace: (intermediateSize) => ({ intermediate_size: intermediateSize }),

  fromHuggingFace: (json, file) => readKey(json, file, 'intermediate_size', count()),
});
