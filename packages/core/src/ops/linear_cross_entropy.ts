import { type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkDtype, checkInt, checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';

/** Options of `linearCrossEntropy`. */
export interface LinearCrossEntropyOptions {
  /** Factor on the logits; default 1. */
  logitScale?: number;
  /** Rows with this target have loss 0 and no gradient; default −1. */
  ignoreIndex?: number;
}

/**
 * The output head and its cross-entropy as one op: the logits `hidden·weightᵀ` exist for one chunk of rows at a time
 * and are recomputed in the backward, so there is never an [N, V] tensor.
 *
 * @param hidden [N, C]
 * @param weight [V, C]
 * @param targets int32 [N], each from 0 to V−1 or `ignoreIndex`
 * @returns [N] the loss of each row in nats, 0 where ignored
 */
export function linearCrossEntropy(
  hidden: Tensor2D,
  weight: Tensor2D,
  targets: Tensor1D,
  options: LinearCrossEntropyOptions = {},
): Tensor1D {
  const op = 'linearCrossEntropy';
  checkShape(op, 'hidden', hidden, [-1, -1]);
  checkShape(op, 'weight', weight, [-1, hidden.shape[1]]);
  checkShape(op, 'targets', targets, [hidden.shape[0]]);
  checkDtype(op, 'targets', targets, 'int32');
  const attrs = { logitScale: options.logitScale ?? 1, ignoreIndex: options.ignoreIndex ?? -1 };
  checkNumber(op, 'logitScale', attrs.logitScale);
  checkInt(op, 'ignoreIndex', attrs.ignoreIndex);
  return tidy(() => runKernel('LinearCrossEntropy', { hidden, weight, targets }, attrs)[0] as Tensor1D);
}

defineGradient(
  'LinearCrossEntropy',
  { inputs: ['hidden', 'weight', 'targets'], outputs: [1] },
  ([dLoss], [hidden, weight, targets, logSumExp], attrs) => {
    const inputs = { hidden, weight, targets, logSumExp, dLoss };
    const [dHidden, dWeight] = runKernel('LinearCrossEntropyGrad', inputs, attrs);
    return { hidden: () => dHidden, weight: () => dWeight };
  },
);
