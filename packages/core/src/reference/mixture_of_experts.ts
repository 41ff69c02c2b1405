/**
 * A mixture of experts in plain tfjs ops: every expert takes every token, with the weight 0 where the token has not chosen it.
 * That is E/k times the work, but nothing is asked of the host and no op depends on the counts.
 */
import {
  add,
  addN,
  concat,
  equal,
  exp,
  logSumExp,
  matMul,
  max,
  mean,
  minimum,
  mul,
  reshape,
  sigmoid,
  slice,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tidy,
  transpose,
  zeros,
} from '@tensorflow/tfjs-core';
import type { MixtureAttributes, ReferenceKernel } from '../kernels.js';
import { swiGluGrad } from './swiglu.js';

const LARGEST_FLOAT = 3.4028234663852886e38;

/** Each token's experts: 1 where one is chosen [N,E], and their numbers, one [N,1] after the other. */
function choose(logits: Tensor2D, active: number): { chosen: Tensor2D; choices: Tensor2D[] } {
  const experts = logits.shape[1];
  // E for the first expert, 1 for the last: of equal ones the lower has more.
  const lowness = reshape(tensor1d(Float32Array.from({ length: experts }, (_, e) => experts - e)), [1, experts]);
  const ones: Tensor2D[] = [];
  const choices: Tensor2D[] = [];
  let left = logits;
  for (let j = 0; j < active; j++) {
    const largest = equal(left, max(left, 1, true)).cast('float32');
    const lowest = max(mul(largest, lowness), 1, true);
    const one = mul(largest, equal(mul(largest, lowness), lowest).cast('float32')) as Tensor2D;
    ones.push(one);
    choices.push(minimum(sub(experts, lowest), experts - 1) as Tensor2D);
    left = minimum(left, mul(sub(1, mul(one, 2)), LARGEST_FLOAT)) as Tensor2D;
  }
  return { chosen: addN(ones), choices };
}

/** The weights of the experts [N,E], 0 where one is not chosen. */
function gatesOf(logits: Tensor2D, chosen: Tensor2D): Tensor2D {
  const powers = mul(exp(sub(logits, max(logits, 1, true))), chosen);
  return powers.div(sum(powers, 1, true)) as Tensor2D;
}

/** One expert's weights: gate and up [F,C], down [C,F]. */
interface Expert {
  gate: Tensor2D;
  up: Tensor2D;
  down: Tensor2D;
}

function expert({ input, output }: { input: Tensor; output: Tensor }, e: number): Expert {
  const [, width, units] = output.shape as [number, number, number];
  const half = (from: number) => reshape(slice(input, [e, from, 0], [1, units, width]), [units, width]) as Tensor2D;
  return {
    gate: half(0),
    up: half(units),
    down: reshape(slice(output, [e, 0, 0], [1, width, units]), [width, units]) as Tensor2D,
  };
}

const column = (gates: Tensor2D, e: number) => slice(gates, [0, e], [gates.shape[0], 1]);

/** The mean over N tokens: 0 of none. */
const meanOf = (x: Tensor, rows: number) => (rows === 0 ? zeros(x.shape.slice(1)) : mean(x, 0));

/** The softmax over all experts [N,E], its normaliser [N,1], and the share of the choices that each expert has [E]. */
function sharesOf(logits: Tensor2D, chosen: Tensor2D, active: number) {
  const normaliser = logSumExp(logits, 1, true) as Tensor2D;
  const counts = sum(chosen, 0) as Tensor1D;
  const share = counts.div(Math.max(1, logits.shape[0] * active)) as Tensor1D;
  return { normaliser, probabilities: exp(sub(logits, normaliser)) as Tensor2D, counts, share };
}

function sharesIn(counts: readonly number[]): Tensor1D {
  const all = counts.reduce((sum, count) => sum + count, 0);
  return tensor1d(Float32Array.from(counts, (count) => count / Math.max(1, all)));
}

/**
 * x·routerᵀ in float32, [N,E]: rounded to sixteen bits, logits would swap experts. Written as Aᵀ·B, the form whose result every
 * backend leaves in float32.
 */
function logitsOf(x: Tensor, router: Tensor): Tensor2D {
  return tidy(() => matMul(transpose(x), transpose(router), true, false));
}

export const mixtureOfExperts: ReferenceKernel<'MixtureOfExperts'> = ({ x, router, ...weights }, { active }) => {
  const [rows, experts] = [x.shape[0]!, router.shape[0]!];
  const logits = logitsOf(x, router);
  const { chosen, choices } = choose(logits, active);
  const gates = gatesOf(logits, chosen);
  let y = zeros(x.shape);
  for (let e = 0; e < experts; e++) {
    const before = y;
    y = tidy(() => {
      const { gate, up, down } = expert(weights, e);
      const open = matMul(x, gate, false, true);
      const hidden = mul(mul(open, sigmoid(open)), matMul(x, up, false, true));
      return add(before, matMul(mul(hidden, column(gates, e)), down, false, true));
    });
    before.dispose();
  }
  const { normaliser, probabilities, counts, share } = sharesOf(logits, chosen, active);
  const balance = mul(sum(mul(meanOf(probabilities, rows), share)), experts);
  const z = meanOf(normaliser.square(), rows);
  const routing = concat([reshape(balance, [1]), reshape(z, [1]), counts]);
  return [y, routing, concat(choices, 1).cast('int32'), logits, zeros([0])];
};

export const mixtureOfExpertsGrad: ReferenceKernel<'MixtureOfExpertsGrad'> = (inputs, attrs) => {
  const { x, router, dy, sumRouter, sumInput, sumOutput, ...weights } = inputs;
  const logits = inputs.logits as Tensor2D;
  const experts = router.shape[0]!;
  const { chosen } = choose(logits, attrs.active);
  const gates = gatesOf(logits, chosen);
  let dx = zeros(x.shape);
  const parts = Array.from({ length: experts }, (_, e) => {
    const before = dx;
    const { dx: sum, ...part } = tidy(() => expertGrad(before, x, dy, column(gates, e), expert(weights, e)));
    dx = sum;
    before.dispose();
    return part;
  });
  // Σ g·dg of each token: what all of its gates lose where one gains.
  const dGates = concat(
    parts.map(({ dGate }) => dGate),
    1,
  );
  const chain = mul(gates, sub(dGates, sum(mul(gates, dGates), 1, true)));
  const dLogits = add(chain, routingGrad(logits, chosen, attrs)) as Tensor2D;
  const stacked = (one: 'dInput' | 'dOutput', { shape }: Tensor) =>
    reshape(
      concat(
        parts.map((part) => part[one]),
        0,
      ),
      shape,
    );
  const plus = (gradient: Tensor, before: Tensor | undefined) => (before ? add(before, gradient) : gradient);
  return [
    add(dx, matMul(dLogits, router as Tensor2D)),
    plus(matMul(dLogits, x as Tensor2D, true, false), sumRouter),
    plus(stacked('dInput', weights.input), sumInput),
    plus(stacked('dOutput', weights.output), sumOutput),
  ];
};

/** What one expert adds; dGate [N,1] is ⟨dy, down·h⟩ taken as ⟨downᵀ·dy, h⟩, for which no output of the expert is needed. */
function expertGrad(before: Tensor, x: Tensor, dy: Tensor, weight: Tensor, { gate, up, down }: Expert) {
  const [open, raised] = [matMul(x, gate, false, true), matMul(x, up, false, true)];
  const hidden = mul(mul(open, sigmoid(open)), raised);
  const back = matMul(dy, down);
  const [dOpen, dRaised] = swiGluGrad({ gate: open, up: raised, dy: mul(back, weight) }, {});
  return {
    dx: addN([before, matMul(dOpen, gate), matMul(dRaised, up)]),
    dGate: sum(mul(back, hidden), 1, true),
    dInput: concat([matMul(dOpen, x, true, false), matMul(dRaised, x, true, false)], 0),
    dOutput: matMul(dy, mul(hidden, weight), true, false),
  };
}

/** The gradient of the routing's two losses in the logits. */
function routingGrad(logits: Tensor2D, chosen: Tensor2D, attrs: MixtureAttributes): Tensor {
  const [rows, experts] = logits.shape;
  const { normaliser, probabilities, share: own } = sharesOf(logits, chosen, attrs.active);
  const share = attrs.balanceCounts ? sharesIn(attrs.balanceCounts) : own;
  const average = sum(mul(probabilities, share), 1, true);
  const ofBalance = mul(sub(share, average), (attrs.balanceWeight * experts) / Math.max(1, rows));
  const ofZ = mul(normaliser, (attrs.zWeight * 2) / Math.max(1, rows));
  return mul(probabilities, add(ofBalance, ofZ));
}
