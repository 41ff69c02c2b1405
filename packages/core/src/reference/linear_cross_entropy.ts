/** Output head and cross-entropy in plain tfjs ops, a chunk of rows at a time. */
import {
  concat,
  exp,
  logSumExp,
  matMul,
  mul,
  oneHot,
  sum,
  type Tensor1D,
  type Tensor2D,
  tidy,
  zeros,
} from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';
import { blocksOf } from './blocks.js';

/** How many rows have their logits in memory at once: about four million numbers. */
function chunkRows(vocabSize: number): number {
  return Math.max(16, Math.floor(2 ** 22 / vocabSize));
}

export const linearCrossEntropy: ReferenceKernel<'LinearCrossEntropy'> = (
  inputs,
  { logitScale, ignoreIndex, likeliest = false },
) => {
  const { hidden, weight, targets } = inputs as { hidden: Tensor2D; weight: Tensor2D; targets: Tensor1D };
  const [vocabSize, width] = weight.shape;
  const chunks = blocksOf(hidden.shape[0], chunkRows(vocabSize)).map(({ begin, end }) =>
    tidy((): Tensor1D[] => {
      const rows = hidden.slice([begin, 0], [end - begin, width]);
      const target = targets.slice(begin, end - begin);
      const scored = target.notEqual(ignoreIndex).cast('float32');
      const logits = mul(matMul(rows, weight, false, true), logitScale) as Tensor2D;
      const normaliser = logSumExp(logits, 1) as Tensor1D;
      const index = target.mul(scored.cast('int32')).cast('int32') as Tensor1D;
      const targetRows = weight.gather(index);
      const chosen = sum(mul(rows, targetRows), 1).mul(logitScale);
      const results = [normaliser.sub(chosen).mul(scored) as Tensor1D, normaliser];
      if (!likeliest) return results;
      const above = logits.greater(sum(mul(logits, oneHot(index, vocabSize)), 1, true)).cast('float32');
      return [...results, sum(above, 1).equal(0).cast('float32').mul(scored) as Tensor1D];
    }),
  );
  const output = (i: number) => (chunks.length === 0 ? zeros([0]) : concat(chunks.map((chunk) => chunk[i]!)));
  return likeliest ? [output(0), output(1), output(2)] : [output(0), output(1)];
};

export const linearCrossEntropyGrad: ReferenceKernel<'LinearCrossEntropyGrad'> = (inputs, attrs) => {
  const {
    hidden,
    weight,
    targets,
    logSumExp: normaliser,
    dLoss,
    sum: before,
  } = inputs as {
    hidden: Tensor2D;
    weight: Tensor2D;
    targets: Tensor1D;
    logSumExp: Tensor1D;
    dLoss: Tensor1D;
    sum?: Tensor2D;
  };
  const { logitScale, ignoreIndex } = attrs;
  const [vocabSize, width] = weight.shape;
  const dHidden: Tensor2D[] = [];
  let dWeight = zeros([vocabSize, width]) as Tensor2D;
  for (const { begin, end } of blocksOf(hidden.shape[0], chunkRows(vocabSize))) {
    const soFar = dWeight;
    const [dRows, next] = tidy((): [Tensor2D, Tensor2D] => {
      const length = end - begin;
      const rows = hidden.slice([begin, 0], [length, width]);
      const target = targets.slice(begin, length);
      const scored = target.notEqual(ignoreIndex).cast('float32');
      const logits = mul(matMul(rows, weight, false, true), logitScale);
      const probabilities = exp(logits.sub(normaliser.slice(begin, length).reshape([-1, 1])));
      const hit = oneHot(target.mul(scored.cast('int32')).cast('int32') as Tensor1D, vocabSize).cast('float32');
      const factor = dLoss.slice(begin, length).mul(scored).mul(logitScale).reshape([-1, 1]);
      const dLogits = probabilities.sub(hit).mul(factor) as Tensor2D;
      return [matMul(dLogits, weight), soFar.add(matMul(dLogits, rows, true, false)) as Tensor2D];
    });
    soFar.dispose();
    dHidden.push(dRows);
    dWeight = next;
  }
  if (before) dWeight = before.add(dWeight);
  return [dHidden.length === 0 ? zeros([0, width]) : concat(dHidden, 0), dWeight];
};
