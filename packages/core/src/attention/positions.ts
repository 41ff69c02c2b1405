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
  | { kind: 'dynamic'; factor: number; originalContextLength: number }
  | Llama3Scaling
  | YarnScaling;

/**
 * LLaMA 3's: frequencies whose waves are longer than `originalContextLength / lowFrequencyFactor` are divided by `factor`,
 * those shorter than `originalContextLength / highFrequencyFactor` stay, and those between are blended.
 */
export interface Llama3Scaling {
  kind: 'llama3';
  factor: number;
  lowFrequencyFactor: number;
  highFrequencyFactor: number;
  originalContextLength: number;
}

/**
 * YaRN (https://arxiv.org/abs/2309.00071): frequencies that turn more than `betaFast` times in `originalContextLength`
 * stay, those that turn less than `betaSlow` times are divided by `factor`, and those between are blended. The temperature
 * that belongs to it is `yarnTemperature`, a factor on q·k.
 */
export interface YarnScaling {
  kind: 'yarn';
  factor: number;
  originalContextLength: number;
  betaFast: number;
  betaSlow: number;
}

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
  /** With `rotated`, only the first `rotated / 2` pairs of each head are turned, by the angles of a head of that dimension. */
  | { kind: 'rope'; theta?: number; scaling?: RopeScaling | undefined; rotated?: number | undefined }
  | { kind: 'alibi'; slopes?: readonly number[] }
  | { kind: 'fire'; parameters: FireParameters; initialThreshold: number }
  /** [M, K], added to the logits of each key. */
  | { kind: 'keys'; keyBias: Tensor };

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
    checkScaling(scaling);
  }
  const exponent = headDim / (headDim - 2);
  let base = theta;
  if (scaling?.kind === 'ntk') base = theta * scaling.factor ** exponent;
  if (scaling?.kind === 'dynamic') {
    const ratio = Math.max(length, scaling.originalContextLength) / scaling.originalContextLength;
    base = theta * (scaling.factor * ratio - (scaling.factor - 1)) ** exponent;
  }
  const frequencies = Float64Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  if (scaling?.kind === 'linear') return frequencies.map((frequency) => frequency / scaling.factor);
  if (scaling?.kind === 'llama3') return frequencies.map((frequency) => llama3(frequency, scaling));
  if (scaling?.kind === 'yarn') return yarn(frequencies, theta, scaling);
  return frequencies;
}

type NumbersOf<Scaling> = Scaling extends RopeScaling ? readonly Exclude<keyof Scaling, 'kind' | 'factor'>[] : never;
type ByKind = { [Kind in RopeScaling['kind']]: NumbersOf<Extract<RopeScaling, { kind: Kind }>> };

/** What each kind has beside its factor. */
const scalings: ByKind = {
  linear: [],
  ntk: [],
  dynamic: ['originalContextLength'],
  llama3: ['originalContextLength', 'lowFrequencyFactor', 'highFrequencyFactor'],
  yarn: ['originalContextLength', 'betaFast', 'betaSlow'],
};

function checkScaling(scaling: RopeScaling): void {
  const op = 'RoPE scaling';
  const numbers: readonly string[] | undefined = Object.hasOwn(scalings, scaling.kind)
    ? scalings[scaling.kind]
    : undefined;
  if (!numbers)
    throw new UserError(`${op}: kind is ${scaling.kind}; expected one of ${Object.keys(scalings).join(', ')}.`);
  checkNumber(op, 'factor', scaling.factor, 1);
  const values = scaling as unknown as Record<string, number>;
  for (const name of numbers) {
    if (name === 'originalContextLength') checkInt(op, name, values[name]!, 1);
    else checkNumber(op, name, values[name]!);
  }
}

/**
 * The same where only the first pairs of a head are turned: as many as a head of dimension `rotated` has, by its angles, and
 * the others by none.
 *
 * @returns [D/2]
 */
export function partialInverseFrequencies(
  headDim: number,
  rotated: number,
  ...options: [theta?: number, scaling?: RopeScaling, length?: number]
): Float64Array {
  if (!(rotated <= headDim))
    throw new UserError(`RoPE: ${rotated} of a head's ${headDim} dimensions cannot be turned.`);
  const frequencies = new Float64Array(headDim / 2);
  frequencies.set(ropeInverseFrequencies(rotated, ...options));
  return frequencies;
}

/** Between a frequency and the same divided by the factor; `kept` is the first one's share. */
const blend = (frequency: number, factor: number, kept: number) => (kept + (1 - kept) / factor) * frequency;
const clamp = (value: number) => Math.min(1, Math.max(0, value));

function llama3(frequency: number, scaling: Llama3Scaling): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength } = scaling;
  const turns = (originalContextLength * frequency) / (2 * Math.PI);
  return blend(frequency, factor, clamp((turns - low) / (high - low)));
}

/** As `transformers` rounds it: the ramp between the two kinds of frequencies begins and ends at whole dimensions. */
function yarn(frequencies: Float64Array, theta: number, scaling: YarnScaling): Float64Array {
  const { factor, originalContextLength, betaFast, betaSlow } = scaling;
  const headDim = 2 * frequencies.length;
  const dimensionOf = (turns: number) =>
    (headDim * Math.log(originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(0, Math.floor(dimensionOf(betaFast)));
  const high = Math.min(headDim - 1, Math.ceil(dimensionOf(betaSlow)));
  const width = high === low ? 0.001 : high - low;
  return frequencies.map((frequency, i) => blend(frequency, factor, 1 - clamp((i - low) / width)));
}

/** YaRN's factor on q·k: both queries and keys are multiplied by 0.1·ln(factor) + 1. */
export const yarnTemperature = (factor: number) => (factor <= 1 ? 1 : (0.1 * Math.log(factor) + 1) ** 2);

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
