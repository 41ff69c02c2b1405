import { add, type Tensor, type Tensor1D, tidy } from '@tensorflow/tfjs-core';
import { checkDtype, checkInt, checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import type { CrossEntropyAttributes } from '../kernels.js';
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
  const checked = checkedAttributes('linearCrossEntropy', hidden, weight, targets, options);
  const attrs = { ...checked, gradientFollows: isRecorded() };
  return tidy(() => runKernel('LinearCrossEntropy', { hidden, weight, targets }, attrs)[0] as Tensor1D);
}

/** The loss of each row as `linearCrossEntropy` has it, and whether its target is the likeliest of all. */
export interface TargetScores {
  /** [N] in nats, 0 where ignored */
  losses: Tensor1D;
  /** [N] 1 where no logit is above the target's, 0 elsewhere and where ignored */
  likeliest: Tensor1D;
}

/** As `linearCrossEntropy`, without a gradient, and says which targets greedy decoding would choose. */
export function linearTargetScores(
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): TargetScores {
  const op = 'linearTargetScores';
  const attrs = { ...checkedAttributes(op, hidden, weight, targets, options), gradientFollows: false, likeliest: true };
  const [losses, , likeliest] = runKernel('LinearCrossEntropy', { hidden, weight, targets }, attrs);
  return { losses: losses as Tensor1D, likeliest: likeliest as Tensor1D };
}

function checkedAttributes(
  op: string,
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  { logitScale = 1, ignoreIndex = -1 }: LinearCrossEntropyOptions,
): CrossEntropyAttributes {
  checkShape(op, 'hidden', hidden, [-1, -1]);
  checkShape(op, 'weight', weight, [-1, hidden.shape[1]]);
  checkShape(op, 'targets', targets, [hidden.shape[0]]);
  checkDtype(op, 'targets', targets, 'int32');
  checkNumber(op, 'logitScale', logitScale);
  checkInt(op, 'ignoreIndex', ignoreIndex);
  return { logitScale, ignoreIndex };
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
