/** Figures over documents and over tasks, summed in the harness's order, so that they equal its own to the last digit. */
import { exp } from '../python/exp.js';
import { PythonRandom } from '../python/random.js';

/** A sum from left to right. */
export function sumOf(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export function mean(values: readonly number[]): number {
  return sumOf(values) / values.length;
}

function sampleDeviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(sumOf(values.map((value) => (value - middle) ** 2)) / (values.length - 1));
}

/** The standard error of a mean; undefined for a single value. */
export function meanStandardError(values: readonly number[]): number | undefined {
  return values.length < 2 ? undefined : sampleDeviation(values) / Math.sqrt(values.length);
}

/** A log-likelihood, and what it is counted in. */
export type Weighed = readonly [logLikelihood: number, weight: number];

function weightedMean(items: readonly Weighed[]): number {
  return sumOf(items.map(([value]) => value)) / sumOf(items.map(([, weight]) => weight));
}

export function weightedPerplexity(items: readonly Weighed[]): number {
  return exp(-weightedMean(items));
}

export function bitsPerByte(items: readonly Weighed[]): number {
  return -weightedMean(items) / Math.LN2;
}

/** The mean of a group: each task by its documents, or all tasks alike. */
export function groupMean(scores: readonly number[], sizes: readonly number[], weightBySize: boolean): number {
  const weights = weightBySize ? sizes : sizes.map(() => 1);
  return sumOf(scores.map((score, i) => score * weights[i]!)) / sumOf(weights);
}

/** The standard error of all documents of a group together; undefined where a task has none. */
export function pooledStandardError(
  errors: readonly (number | undefined)[],
  sizes: readonly number[],
): number | undefined {
  if (errors.some((error) => error === undefined)) return undefined;
  const all = sumOf(sizes);
  const variances = sizes.map((size, i) => (size - 1) * errors[i]! ** 2 * size);
  return Math.sqrt(sumOf(variances) / (all - sizes.length) / all);
}

/** Values drawn together by one generator. */
const CHUNK = 1000;

/** The deviation of a figure over samples with replacement; chunk i of them is drawn by Python's generator of seed i. */
export function bootstrapStandardError(
  figure: (values: readonly number[]) => number,
  values: readonly number[],
  iterations: number,
): number {
  const chunk = Math.min(CHUNK, iterations);
  const figures: number[] = [];
  for (let seed = 0; seed < Math.floor(iterations / chunk); seed++) {
    const random = new PythonRandom(seed);
    for (let i = 0; i < chunk; i++) figures.push(figure(random.choices(values, values.length)));
  }
  return sampleDeviation(figures);
}
