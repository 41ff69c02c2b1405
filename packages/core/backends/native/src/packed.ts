/** The first arguments of every attention kernel of the C++ library. */

import type { PackedAttributes } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';

export const packedParameters =
  'int64_t documents, void *cuSeqlens, void *cuSeqlensK, int64_t heads, int64_t kvHeads, int64_t headDim, float scale';

export function packedArguments(q: TensorInfo, k: TensorInfo, { cuSeqlens, cuSeqlensK, scale }: PackedAttributes) {
  const [, heads, headDim] = q.shape as [number, number, number];
  return [cuSeqlens.length - 1, cuSeqlens, cuSeqlensK, heads, k.shape[1]!, headDim, scale];
}
