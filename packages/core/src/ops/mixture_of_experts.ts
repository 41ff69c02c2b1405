import { add, type Tensor, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core';
import { checkInt, checkNumber, checkShape } from '../checks.js';
import { defineGradient } from '../define_gradient.js';
import { runKernel } from '../run_kernel.js';
import { addable } from '../value_and_gradients.js';

/** The weights of a mixture of experts, as GraniteMoE has them. */
export interface MixtureWeights {
  /** [E, C] */
  router: Tensor;
  /** [E, 2F, C], of each expert the rows of gate, then those of up. */
  input: Tensor;
  /** [E, C, F] */
  output: Tensor;
}

/** Options of `mixtureOfExperts`. */
export interface MixtureOptions {
  /** How many experts each token has, from 1 to E. */
  active: number;
  /**
   * Factors on the balance loss and on the z loss: gradients through `y` are those of what is differentiated with these two as
   * further terms of it. Default 0.
   */
  balanceWeight?: number;
  zWeight?: number;
  /**
   * [E], how often each expert was chosen, for its share in the gradient of the balance loss. Default: as often as `x` chooses it.
   */
  balanceCounts?: readonly number[] | undefined;
}

/** Where the tokens went; nothing is differentiated through it. */
export interface Routing {
  /** [2 + E], the balance loss, the z loss, and how often each expert was chosen. */
  routing: Tensor1D;
  /** int32 [N, active]: each token's experts, the one with the largest logit first. */
  choices: Tensor2D;
}

/**
 * A dropless mixture of SwiGLU experts (https://arxiv.org/abs/1701.06538; https://arxiv.org/abs/2403.08245): the logits
 * `x·routerᵀ` choose each token's experts, of equal ones the lower, and the softmax over the chosen weighs what they give.
 * The balance loss is E · Σₑ mean P · share, P the softmax over all experts (https://arxiv.org/abs/2101.03961, equation 4),
 * the z loss mean logSumExp² (https://arxiv.org/abs/2202.08906, equation 5).
 *
 * @param x [N, C]
 * @returns y [N, C] and where the tokens went
 */
export function mixtureOfExperts(
  x: Tensor,
  weights: MixtureWeights,
  options: MixtureOptions,
): { y: Tensor2D } & Routing {
  const op = 'mixtureOfExperts';
  const { router, input, output } = weights;
  const { active, balanceWeight = 0, zWeight = 0, balanceCounts } = options;
  checkShape(op, 'x', x, [-1, -1]);
  checkShape(op, 'router', router, [-1, x.shape[1]]);
  const [experts, width] = router.shape;
  checkShape(op, 'output', output, [experts, width, -1]);
  checkShape(op, 'input', input, [experts, 2 * output.shape[2], width]);
  checkInt(op, 'active', active, 1, experts);
  checkNumber(op, 'balanceWeight', balanceWeight);
  checkNumber(op, 'zWeight', zWeight);
  for (const count of balanceCounts ?? []) checkInt(op, 'balanceCounts', count, 0, Number.MAX_SAFE_INTEGER);
  if (balanceCounts) checkInt(op, 'balanceCounts.length', balanceCounts.length, experts!, experts!);
  return tidy(() => {
    const attrs = { active, balanceWeight, zWeight, balanceCounts };
    const [y, routing, choices] = runKernel('MixtureOfExperts', { x, router, input, output }, attrs);
    return { y: y as Tensor2D, routing: routing as Tensor1D, choices: choices as Tensor2D };
  });
}

defineGradient(
  'MixtureOfExperts',
  { inputs: ['x', 'router', 'input', 'output'], outputs: [2, 3, 4] },
  ([dy], [x, router, input, output, choices, logits, saved], attrs) => {
    const inputs = { x, router, input, output, choices, logits, saved, dy };
    const gradients = (sums: readonly (Tensor | undefined)[] = []) => {
      const named = ['sumRouter', 'sumInput', 'sumOutput'].flatMap((name, i) => (sums[i] ? [[name, sums[i]]] : []));
      return runKernel('MixtureOfExpertsGrad', { ...inputs, ...Object.fromEntries(named) }, attrs);
    };
    const alone = [0, 1, 2, 3].map((i) => () => gradients()[i]!);
    const [dx, dRouter, dInput, dOutput] = addable(alone, ([before, ...sums]) => {
      const [ofX, ...ofWeights] = gradients(sums);
      return [before ? add(before, ofX) : ofX, ...ofWeights];
    });
    return { x: dx!, router: dRouter!, input: dInput!, output: dOutput! };
  },
);
