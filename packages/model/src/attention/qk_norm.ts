/**
 * QK-norm: each head's query and key divided by their root mean square before they meet, so that q·k stays within
 * ±√headDim at first whatever the projections grow to (https://arxiv.org/abs/2010.04245; as in Qwen 3, one learned
 * weight for each place of a head, shared by the heads of a layer).
 */
import { rmsNorm } from '@stickbreaking/core';
import { reshape, type Tensor1D, type Tensor3D } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { ones, parameter } from '../parameter.js';
import type { ModelSizes } from '../sizes.js';
import type { QueriesAndKeys } from './attention_kind.js';

/** What an attention kind that has it takes into its schema. */
export const qkNormSchema = {
  /** Divide each head's query and key by their root mean square, and multiply them by learned weights; default false. */
  qkNorm: z.boolean().optional(), // absent where it is not asked for: what was trained before it came is the same still
};

export const qkNormParameters = (qkNorm: boolean | undefined, { headDim }: ModelSizes) => ({
  queryNorm: qkNorm ? parameter('self_attn.q_norm.weight', [headDim], ones) : undefined,
  keyNorm: qkNorm ? parameter('self_attn.k_norm.weight', [headDim], ones) : undefined,
});

/** Normalised by the weights of `qkNormParameters`; as they are, where there are none. */
export function normalisedQueriesAndKeys(
  inputs: QueriesAndKeys,
  { queryNorm, keyNorm }: { queryNorm: Tensor1D | undefined; keyNorm: Tensor1D | undefined },
  epsilon: number,
): QueriesAndKeys {
  if (!queryNorm || !keyNorm) return inputs;
  const byHead = (x: Tensor3D, weight: Tensor1D) => {
    const [tokens, heads, headDim] = x.shape;
    return reshape(rmsNorm(reshape(x, [tokens * heads, headDim]), weight, epsilon), x.shape) as Tensor3D;
  };
  return { ...inputs, q: byHead(inputs.q, queryNorm), k: byHead(inputs.k, keyNorm) };
}
