/** Positional schemes of softmax attention: RoPE's frequencies and their scalings, and ALiBi's slopes. */
import { UserError } from '@stickbreaking/base';
import type { Tensor } from '@tensorflow/tfjs-core';
import { checkInt, checkNumber } from '../checks.js';

/** RoPE scaling, each as the `transformers` library defines it. */
export type RopeScaling =
  /** Position interpolation: all frequencies divided by `factor`. */
  | { kind: 'linear'; factor: number }
  /** NTK-aware, static: theta · factor^(D/(D−2)). */
  | { kind: 'ntk'; factor: number }
  /** Dynamic NTK: theta grows with the document's length beyond `originalContextLength`. */
  | { kind: 'dynamic'; factor: number; originalContextLength: number };

/** FIRE's learned parameters (https://arxiv.org/abs/2310.04418), in torch's Linear layout. */
export interface FireParameters {
  /** [W, 1] */
  w1: Tensor;
  /** [W] */
  b1: Tensor;
  /** [H, W] */
  w2: Tensor;
  /** [H] */
  b2: Tensor;
  /** [1], the published initial value is 0.1 */
  c: Tensor;
  /** [1], the published initial value is 1 */
  thresholdMultiplier: Tensor;
}

/** The position scheme of softmax attention. */
export type Position =
  | { kind: 'none' }
  | { kind: 'rope'; theta?: number; scaling?: RopeScaling }
  | { kind: 'alibi'; slopes?: readonly number[] }
  | { kind: 'fire'; parameters: FireParameters; initialThreshold: number };

/**
 * RoPE's inverse frequencies `theta^(−2i/D)`, in float64, after scaling.
 *
 * @param headDim D, even
 * @param length the document's length in tokens, used by dynamic scaling only
 * @returns [D/2]
 * @throws UserError if D is odd or an option does not fit
 */
export function ropeInverseFrequencies(
  headDim: number,
  theta = 10_000,
  scaling?: RopeScaling,
  length = 0,
): Float64Array {
  if (headDim < 2 || headDim % 2 !== 0) {
    throw new UserError(`RoPE rotates pairs: the head dimension must be even, but it is ${headDim}.`);
  }
  if (!(theta > 0)) throw new UserError(`RoPE: theta is ${theta}; expected a finite number above 0.`);
  checkNumber('RoPE', 'theta', theta);
  if (scaling) {
    const { kind } = scaling;
    if (kind !== 'linear' && kind !== 'ntk' && kind !== 'dynamic') {
      throw new UserError(`RoPE scaling: kind is ${kind}; expected linear, ntk or dynamic.`);
    }
    checkNumber('RoPE scaling', 'factor', scaling.factor, 1);
    if (kind === 'dynamic') checkInt('RoPE scaling', 'originalContextLength', scaling.originalContextLength, 1);
  }
  const exponent = headDim / (headDim - 2);
  let base = theta;
  if (scaling?.kind === 'ntk') base = theta * scaling.factor ** exponent;
  if (scaling?.kind === 'dynamic') {
    const ratio = Math.max(length, scaling.originalContextLength) / scaling.originalContextLength;
    base = theta * (scaling.factor * ratio - (scaling.factor - 1)) ** exponent;
  }
  const divisor = scaling?.kind === 'linear' ? scaling.factor : 1;
  return Float64Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim) / divisor);
}

/**
 * ALiBi's published slopes (https://arxiv.org/abs/2108.12409): 2^(−8h/H) for a power of two; otherwise those of the
 * next smaller power of two, followed by every other slope of twice that power.
 */
export function alibiSlopes(numHeads: number): number[] {
  const powers = (count: number) => Array.from({ length: count }, (_, h) => 2 ** ((-8 * (h + 1)) / count));
  const power = 2 ** Math.floor(Math.log2(numHeads));
  if (power === numHeads) return powers(numHeads);
  const between = powers(2 * power).filter((_, h) => h % 2 === 0);
  return [...powers(power), ...between.slice(0, numHeads - power)];
}
