/** Rotary position embedding (RoPE, https://arxiv.org/abs/2104.09864) over packed documents. */
import { registerGradient, type Tensor, type Tensor3D } from '@tensorflow/tfjs-core';
import { checkCuSeqlens, checkDtype, checkShape, type Ints } from '../checks.js';
import { UserError } from '../errors.js';
import type { RotaryAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

export interface RotaryOptions {
  /** [S+1] boundaries of the documents among the rows of x. */
  cuSeqlens: Ints;
  /** [S] position of each document's first row; default 0. */
  firstPositions?: Ints;
  /** [D/2], or [S·D/2] where each document has its own. */
  inverseFrequencies: Float64Array | Float32Array;
}

/**
 * Turns each pair (i, i + D/2) of a row by position · inverseFrequencies[i]; angles are computed in float64.
 *
 * @param x [N, H, D], D even
 * @returns [N, H, D]
 */
export function rotaryEmbedding(x: Tensor3D, options: RotaryOptions): Tensor3D {
  checkShape('rotaryEmbedding', 'x', x, [-1, -1, -1]);
  checkDtype('rotaryEmbedding', 'x', x, 'float32');
  const cuSeqlens = checkCuSeqlens('rotaryEmbedding', 'cuSeqlens', options.cuSeqlens, x.shape[0]);
  const documents = cuSeqlens.length - 1;
  const half = x.shape[2] / 2;
  const inverseFrequencies = Float64Array.from(options.inverseFrequencies);
  if (inverseFrequencies.length !== half && inverseFrequencies.length !== documents * half) {
    throw new UserError(
      `rotaryEmbedding: ${inverseFrequencies.length} inverse frequencies; expected ${half}, or as many for each of the ${documents} documents.`,
    );
  }
  const firstPositions = options.firstPositions ? Int32Array.from(options.firstPositions) : new Int32Array(documents);
  if (firstPositions.length !== documents) {
    throw new UserError(`rotaryEmbedding: ${firstPositions.length} first positions for ${documents} documents.`);
  }
  const attrs = { cuSeqlens, firstPositions, inverseFrequencies, inverse: false };
  return runKernel('RotaryEmbedding', { x }, attrs)[0] as Tensor3D;
}

registerGradient({
  kernelName: 'RotaryEmbedding',
  gradFunc: (dy, _saved, attrs) => {
    const rotary = attrs as unknown as RotaryAttributes;
    return { x: () => runKernel('RotaryEmbedding', { x: firstOf(dy) }, { ...rotary, inverse: !rotary.inverse })[0]! };
  },
});

function firstOf(dy: Tensor | Tensor[]): Tensor {
  return Array.isArray(dy) ? dy[0]! : dy;
}
