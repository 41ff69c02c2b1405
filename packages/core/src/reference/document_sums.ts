/** Running sums within documents in plain tfjs ops. */
import { concat, cumsum, type Tensor, type Tensor2D, transpose, zeros } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const documentSums: ReferenceKernel<'DocumentSums'> = ({ x }, { cuSeqlens, reverse }) => {
  const columns = x.shape[1]!;
  const sums: Tensor[] = [];
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const [begin, length] = [cuSeqlens[s]!, cuSeqlens[s + 1]! - cuSeqlens[s]!];
    if (length === 0) continue;
    const own = transpose((x as Tensor2D).slice([begin, 0], [length, columns]));
    sums.push(transpose(cumsum(own, 1, false, reverse)));
  }
  if (sums.length === 0) return [zeros(x.shape)];
  return [sums.length === 1 ? sums[0]! : concat(sums, 0)];
};
