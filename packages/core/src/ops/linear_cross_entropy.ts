import { add, type Tensor, type Tensor1D, tidy } from '@tensorflow/tfjs-core';
import { checkDtype, checkInt, checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';
import { addable, isRecorded } from '../value_and_gradients.js';

/** Options of `linearCrossEntropy`. */
export interface LinearCrossEntropyOptions {
  /** Factor on the logits; default 1. */
  logitScale?: number;
  /** Rows with this target have loss 0 and no gradient; default −1. */
  ignoreIndex?: number;
}

/**
 * The output head and its cross-entropy as one op: the logits `hidden·weightᵀ` exist for one chunk of rows at a time,
 * so there is never an [N, V] tensor of them.
 *
 * @param hidden [N, C]
 * @param weight [V, C]
 * @param targets int32 [N], each from 0 to V−1 or `ignoreIndex`
 * @returns [N] the loss of each row in nats, 0 where ignored
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor1D {
  const op = 'linearCrossEntropy';
  checkShape(op, 'hidden', hidden, [-1, -1]);
  checkShape(op, 'weight', weight, [-1, hidden.shape[1]]);
  checkShape(op, 'targets', targets, [hidden.shape[0]]);
  checkDtype(op, 'targets', targets, 'int32');
  const { logitScale = 1, ignoreIndex = -1 } = options;
  checkNumber(op, 'logitScale', logitScale);
  checkInt(op, 'ignoreIndex', ignoreIndex);
  const attrs = { logitScale, ignoreIndex, gradientFollows: isRecorded() };
  return tidy(() => runKernel('LinearCrossEntropy', { hidden, weight, targets }, attrs)[0] as Tensor1D);
}

defineGradient(
  'LinearCrossEntropy',
  { inputs: ['hidden', 'weight', 'targets'], outputs: [1, 2] },
  ([dLoss], [hidden, weight, targets, logSumExp, kept], { logitScale, ignoreIndex }) => {
    const inputs = { hidden, weight, targets, logSumExp, dLoss, ...(kept ? { saved: kept } : {}) };
    const gradients = (sum?: Tensor) =>
      runKernel('LinearCrossEntropyGrad', { ...inputs, ...(sum ? { sum } : {}) }, { logitScale, ignoreIndex });
    const [dHidden, dWeight] = addable([() => gradients()[0], () => gradients()[1]], ([before, sum]) => {
      const [ofHidden, ofWeight] = gradients(sum);
      return [before ? add(before, ofHidden) : ofHidden, ofWeight];
    });
    return { hidden: dHidden!, weight: dWeight! };
  },
);
