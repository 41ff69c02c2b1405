/** The fused output head with cross-entropy, AdamW and the gradients' norm on the C++ library. */

import { momentSeed, roundStochastically } from '@stickbreaking/core/backend';
import { engine, type Tensor, type TensorInfo, type Variable } from '@tensorflow/tfjs-core';
import { isSoleOwner, type KernelTools, type NativeKernels } from './backend.js';
import { accumulate } from './elementwise.js';
import { checkIds } from './layers.js';
import { nativeFunction } from './library.js';

/** The gradients of the logits are kept between forward and backward up to here, so that they are computed once. */
const KEPT_BYTES = 2 ** 26;

export const trainingKernels = {
  LinearCrossEntropy(
    { hidden, weight, targets },
    { logitScale, ignoreIndex, likeliest = false, gradientFollows },
    { read, make, allocate },
  ) {
    const [rows, width] = hidden.shape as [number, number];
    const ids = read(targets) as Int32Array;
    checkIds(ids, weight.shape[0]!, ignoreIndex);
    const loss = allocate(rows);
    const logSumExp = allocate(rows);
    const isLikeliest = likeliest ? allocate(rows) : null;
    const vocabSize = weight.shape[0]!;
    const kept = gradientFollows && rows > 0 && 4 * rows * vocabSize <= KEPT_BYTES ? allocate(rows * vocabSize) : null;
    const run = nativeFunction(
      'void sb_linear_cross_entropy(int64_t rows, int64_t width, int64_t vocabSize, float logitScale, int32_t ignoreIndex, void *hidden, void *weight, void *targets, void *loss, void *logSumExp, void *likeliest, void *kept)',
    );
    run(
      ...[rows, width, vocabSize, logitScale, ignoreIndex],
      ...[read(hidden), read(weight), ids, loss, logSumExp, isLikeliest, kept],
    );
    const [ofLoss, ofSum] = [loss, logSumExp].map((values) => make([rows], 'float32', values)) as [
      TensorInfo,
      TensorInfo,
    ];
    // Empty to everything else, so that nobody makes zeros of its size for a gradient that it does not have.
    if (kept) return [ofLoss, ofSum, make([0], 'float32', kept)];
    return isLikeliest ? [ofLoss, ofSum, make([rows], 'float32', isLikeliest)] : [ofLoss, ofSum];
  },

  LinearCrossEntropyGrad(
    { hidden, weight, targets, logSumExp, dLoss, saved, sum },
    { logitScale, ignoreIndex },
    { read, make, allocate },
  ) {
    const [rows, width] = hidden.shape as [number, number];
    const vocabSize = weight.shape[0]!;
    const ids = read(targets) as Int32Array;
    checkIds(ids, vocabSize, ignoreIndex);
    const dHidden = allocate(rows * width);
    const dWeight = allocate(vocabSize * width);
    if (rows === 0) dWeight.fill(0);
    if (saved) {
      nativeFunction(
        'void sb_linear_cross_entropy_kept_grad(int64_t rows, int64_t width, int64_t vocabSize, float logitScale, void *hidden, void *weight, void *kept, void *dLoss, void *dHidden, void *dWeight)',
      )(rows, width, vocabSize, logitScale, read(hidden), read(weight), read(saved), read(dLoss), dHidden, dWeight);
      if (sum) accumulate(read(sum), dWeight);
      return [make(hidden.shape, 'float32', dHidden), make(weight.shape, 'float32', dWeight)];
    }
    const run = nativeFunction(
      'void sb_linear_cross_entropy_grad(int64_t rows, int64_t width, int64_t vocabSize, float logitScale, int32_t ignoreIndex, void *hidden, void *weight, void *targets, void *logSumExp, void *dLoss, void *dHidden, void *dWeight)',
    );
    run(
      ...[rows, width, vocabSize, logitScale, ignoreIndex],
      ...[read(hidden), read(weight), ids, read(logSumExp), read(dLoss), dHidden, dWeight],
    );
    if (sum) accumulate(read(sum), dWeight);
    return [make(hidden.shape, 'float32', dHidden), make(weight.shape, 'float32', dWeight)];
  },

  GlobalNorm(inputs, _attrs, { read, make }) {
    const run = nativeFunction('void sb_sums_of_squares(int64_t count, void *x, void *partial)');
    let total = 0;
    for (const info of Object.values(inputs)) {
      const values = read(info);
      const partial = new Float64Array(Math.ceil(values.length / 16384));
      run(values.length, values, partial);
      for (const part of partial) total += part;
    }
    return [make([], 'float32', Float32Array.of(Math.sqrt(total)))];
  },

  AdamW(inputs, { weightDecays, learningRate, beta1, beta2, epsilon, step, momentType, ...attrs }, tools) {
    const gradientScale = attrs.gradientScale * (inputs.scale ? tools.read(inputs.scale)[0]! : 1);
    if (Number.isNaN(gradientScale)) return [];
    const run = nativeFunction(
      'void sb_adamw(int64_t count, float decay, float learningRate, float beta1, float beta2, float epsilon, float unbias1, float unbias2, float gradientScale, void *gradient, void *parameter, void *m, void *v)',
    );
    weightDecays.forEach((weightDecay, i) => {
      const changed = (['param', 'm', 'v'] as const).map((name) => writable(inputs[`${name}${i}`] as Variable, tools));
      const gradient = tools.read(inputs[`grad${i}`]!);
      run(
        ...[gradient.length, 1 - learningRate * weightDecay, learningRate, beta1, beta2, epsilon],
        ...[1 / (1 - beta1 ** step), 1 / (1 - beta2 ** step), gradientScale, gradient, ...changed],
      );
      if (momentType !== 'bfloat16') return;
      const [, first, second] = changed as [unknown, Float32Array, Float32Array];
      roundStochastically(first, momentSeed(step, i), 'first');
      roundStochastically(second, momentSeed(step, i), 'second');
    });
    return [];
  },
} satisfies NativeKernels;

/** The variable's values, to be changed in place; if another tensor shares them, the variable gets a copy first. */
function writable(variable: Variable, tools: KernelTools) {
  if (!isSoleOwner(variable)) {
    const copy = tools.make(variable.shape, 'float32', tools.read(variable).slice());
    const tensor = engine().makeTensorFromTensorInfo(copy) as Tensor;
    variable.assign(tensor);
    tensor.dispose();
  }
  return tools.read(variable);
}
