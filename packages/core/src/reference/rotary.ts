/** Rotary embedding in plain tfjs ops; the angles are computed in float64, which long contexts need. */
import { concat, type Tensor3D, tensor3d } from '@tensorflow/tfjs-core';
import type { ReferenceKernel, RotaryAttributes, RowPositions } from '../kernels.js';

export const rotaryEmbedding: ReferenceKernel<'RotaryEmbedding'> = ({ q, k }, attrs) => [
  turn(q as Tensor3D, attrs.queries, attrs),
  turn(k as Tensor3D, attrs.keys, attrs),
];

function turn(x: Tensor3D, positions: RowPositions, attrs: RotaryAttributes): Tensor3D {
  const [numRows, numHeads, headDim] = x.shape as [number, number, number];
  const half = headDim / 2;
  const [cos, sin] = tables(numRows, half, positions, attrs);
  const first = x.slice([0, 0, 0], [numRows, numHeads, half]);
  const second = x.slice([0, 0, half], [numRows, numHeads, half]);
  return concat([first.mul(cos).sub(second.mul(sin)), second.mul(cos).add(first.mul(sin))], 2);
}

/** cos and sin of every row's angles, [N, 1, D/2]. */
function tables(
  numRows: number,
  half: number,
  { cuSeqlens, firstPositions }: RowPositions,
  { inverseFrequencies, inverse }: RotaryAttributes,
): [Tensor3D, Tensor3D] {
  const cos = new Float32Array(numRows * half);
  const sin = new Float32Array(numRows * half);
  const perDocument = inverseFrequencies.length > half;
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const offset = perDocument ? s * half : 0;
    for (let row = cuSeqlens[s]!; row < cuSeqlens[s + 1]!; row++) {
      const position = firstPositions[s]! + row - cuSeqlens[s]!;
      for (let i = 0; i < half; i++) {
        const angle = position * inverseFrequencies[offset + i]!;
        cos[row * half + i] = Math.cos(angle);
        sin[row * half + i] = inverse ? -Math.sin(angle) : Math.sin(angle);
      }
    }
  }
  return [tensor3d(cos, [numRows, 1, half]), tensor3d(sin, [numRows, 1, half])];
}
