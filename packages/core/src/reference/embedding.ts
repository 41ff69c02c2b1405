/** Embedding rows and their gradient in plain tfjs ops. */
import { add, gather, scatterND, type Tensor1D } from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const embedding: ReferenceKernel<'Embedding'> = ({ tokens, weight }) => [gather(weight, tokens as Tensor1D)];

/** scatterND adds what falls on the same row. */
export const embeddingGrad: ReferenceKernel<'EmbeddingGrad'> = ({ tokens, dy, sum }, { vocabSize }) => {
  const dWeight = scatterND(tokens.reshape([-1, 1]), dy, [vocabSize, dy.shape[1]!]);
  return [sum ? add(sum, dWeight) : dWeight];
};
