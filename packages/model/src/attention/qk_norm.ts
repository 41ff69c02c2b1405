/**
 * QK-norm: each head's query and key divided by their root mean square before they meet, so that q·k stays within
 * ±√headDim at first whatever the projections grow to (https://arxiv.org/abs/2010.04245; as in Qwen 3, one learned
 * weight for each place of a head, shared by the heads of a layer). Or, as in OLMo 2, all heads of a token together, with a
 * weight for each place of each head.
 */
import { rmsNorm } from '@stickbreaking/core';
import { reshape, type Tensor1D, type Tensor3D } from '@tensorflow/tfjs-core';
import { z } from 'zod';
import { ones, parameter } from '../parameter.js';
import type { ModelSizes } from '../sizes.js';
import type { QueriesAndKeys } from './attention_kind.js';

/** What an attention kind that has it takes into its schema. */
export const qkNormSchema = {
  /**
   * Divide each head's query and key by their root mean square, and multiply them by learned weights; 'projection': all heads of
   * a token by that of them all, as OLMo 2 does. Default false.
   */
  // Absent where it is not asked for: what was trained before it came is the same still.
  qkNorm: z.union([z.boolean(), z.literal('projection')]).optional(),
};

export function qkNormParameters(
  qkNorm: boolean | 'projection' | undefined,
  { headDim, numHeads, numKvHeads }: ModelSizes,
) {
  const norm = (name: string, heads: number) =>
    qkNorm ? parameter(name, [qkNorm === 'projection' ? heads * headDim : headDim], ones) : undefined;
  return { queryNorm: norm('self_attn.q_norm.weight', numHeads), keyNorm: norm('self_attn.k_norm.weight', numKvHeads) };
}

/** Normalised by the weights of `qkNormParameters`; as they are, where there are none. */
export function normalisedQueriesAndKeys(
  inputs: QueriesAndKeys,
  { queryNorm, keyNorm }: { queryNorm: Tensor1D | undefined; keyNorm: Tensor1D | undefined },
  epsilon: number,
): QueriesAndKeys {
  if (!queryNorm || !keyNorm) return inputs;
  const normalised = (x: Tensor3D, weight: Tensor1D) => {
    const rows = x.size / weight.shape[0];
    return reshape(rmsNorm(reshape(x, [rows, weight.shape[0]]), weight, epsilon), x.shape) as Tensor3D;
  };
  return { ...inputs, q: normalised(inputs.q, queryNorm), k: normalised(inputs.k, keyNorm) };
}
