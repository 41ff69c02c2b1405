/**
 * FIRE's bias (https://arxiv.org/abs/2310.04418, in its published form): a small learned MLP on the log-transformed
 * distance, divided by the log-transformed query position or length threshold. Its gradient is written out, since
 * kernels are not recorded on the tape.
 */
import {
  add,
  matMul,
  mul,
  relu,
  reshape,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor1d,
  transpose,
} from '@tensorflow/tfjs-core';
import type { FireInputs, SoftmaxAttributes } from '../kernels.js';
import type { Block, PackedDocument } from './blocks.js';

const EPSILON = 1e-6;

/**
 * The MLP's input x = ψ(distance)/(ψ(n) + ε), ψ(x) = log(|c|·x + 1), n = max(position, |multiplier·threshold|); all
 * [B·C].
 */
function normalisedDistance(
  { fireC, fireThreshold }: FireInputs,
  document: PackedDocument,
  queries: Block,
  keys: Block,
  attrs: SoftmaxAttributes,
) {
  const length = queries.end - queries.begin;
  const width = keys.end - keys.begin;
  const distance = new Float32Array(length * width);
  const position = new Float32Array(length * width);
  for (let r = 0; r < length; r++) {
    for (let c = 0; c < width; c++) {
      const p = document.firstPosition + queries.begin + r;
      position[r * width + c] = p;
      distance[r * width + c] = Math.max(0, p - keys.begin - c); // keys after the query are masked, but their logarithm must exist
    }
  }
  const c = fireC.abs();
  const threshold = fireThreshold.mul(attrs.fireInitialThreshold!).abs();
  const distances = tensor1d(distance);
  const positions = tensor1d(position);
  const longest = positions.maximum(threshold);
  const numerator = distances.mul(c).add(1).log();
  const denominator = longest.mul(c).add(1).log().add(EPSILON);
  return {
    x: numerator.div(denominator) as Tensor1D,
    distances,
    positions,
    longest,
    numerator,
    denominator,
    c,
    threshold,
  };
}

/** [B·C, W] before the rectifier. */
function hiddenLayer({ fireW1, fireB1 }: FireInputs, x: Tensor1D): Tensor2D {
  return add(mul(reshape(x, [-1, 1]), reshape(fireW1, [1, -1])), fireB1) as Tensor2D;
}

/** The bias of a block, [H, B, C]. */
export function fireBias(
  inputs: FireInputs,
  document: PackedDocument,
  queries: Block,
  keys: Block,
  attrs: SoftmaxAttributes,
): Tensor3D {
  const { x } = normalisedDistance(inputs, document, queries, keys, attrs);
  const hidden = relu(hiddenLayer(inputs, x));
  const bias = matMul(inputs.fireW2 as Tensor2D, hidden, false, true).add(reshape(inputs.fireB2, [-1, 1]));
  return reshape(bias, [inputs.fireW2.shape[0]!, queries.end - queries.begin, keys.end - keys.begin]);
}

/** Gradients of FIRE's six inputs, in their order, from the bias's gradient [H, B, C] (0 at masked keys). */
export function fireBiasGrad(
  inputs: FireInputs,
  document: PackedDocument,
  queries: Block,
  keys: Block,
  attrs: SoftmaxAttributes,
  dBias: Tensor3D,
): Tensor[] {
  const { x, distances, positions, longest, numerator, denominator, c, threshold } = normalisedDistance(
    inputs,
    document,
    queries,
    keys,
    attrs,
  );
  const before = hiddenLayer(inputs, x);
  const hidden = relu(before);
  const dOut = reshape(dBias, [dBias.shape[0], -1]) as Tensor2D; // [H, B·C]
  const dHidden = matMul(transpose(dOut), inputs.fireW2 as Tensor2D).mul(before.greater(0).cast('float32')) as Tensor2D;
  const dx = sum(mul(dHidden, reshape(inputs.fireW1, [1, -1])), 1);
  // x = numerator/denominator; each is a logarithm of |c|·something + 1.
  const dNumerator = dx.div(denominator);
  const dDenominator = dx.mul(numerator).div(denominator.square()).neg();
  const dC = sum(dNumerator.mul(distances.div(distances.mul(c).add(1)))).add(
    sum(dDenominator.mul(longest.div(longest.mul(c).add(1)))),
  );
  const past = threshold.greater(positions).cast('float32');
  const dLongest = dDenominator.mul(c.div(longest.mul(c).add(1)));
  const dThreshold = sum(dLongest.mul(past))
    .mul(inputs.fireThreshold.sign())
    .mul(Math.abs(attrs.fireInitialThreshold!));
  return [
    reshape(sum(mul(dHidden, reshape(x, [-1, 1])), 0), inputs.fireW1.shape),
    sum(dHidden, 0),
    matMul(dOut, hidden),
    sum(dOut, 1),
    reshape(dC.mul(inputs.fireC.sign()), [1]),
    reshape(dThreshold, [1]),
  ];
}
