/**
 * Runs the conformance suite on a backend: the inputs of every case are drawn afresh, and results compared with
 * float64.
 */
import { chooseSeed, SEED_VARIABLE, seededRandom } from '@stickbreaking/base';
import { tidy } from '@tensorflow/tfjs-core';
import { selectBackend } from '../backends/select.js';
import { attentionCases } from './attention_cases.js';
import { roundToBfloat16 } from './bfloat16.js';
import type { ConformanceCase, Expected, PreparedCase } from './case.js';
import { composedCases } from './composed_cases.js';
import { decodeCases } from './decode_cases.js';
import { fp8Cases } from './fp8_cases.js';
import { opCases } from './op_cases.js';

/** The largest errors allowed, relative in norm, of a whole tensor. A single row may be off by 20 times as much. */
export interface Tolerances {
  output: number;
  gradient: number;
  /** The same for cases with extreme logits; without it, those need only be finite. */
  extreme?: { output: number; gradient: number };
  /** Errors are relative to at least this root mean square: below it, a backend may lose what is left of a stick. */
  negligible?: number;
}

/** What the project asks of every backend that computes in float32. */
export const float32Tolerances: Tolerances = {
  output: 1e-4,
  gradient: 1e-4,
  extreme: { output: 1e-4, gradient: 1e-4 },
};

/**
 * What the project asks of a backend that stores bfloat16, with `bfloat16Inputs`: inputs are exact in it, outputs are
 * rounded to it, and so are weights before the second matmul. With logits of ±200 the rounding of a rotated query alone
 * moves logits by half a unit, so those gradients need only be of the right size. What is left of a stick below 2^-23 is
 * lost (`negligible`).
 */
export const bfloat16Tolerances: Tolerances = {
  output: 1e-2,
  gradient: 1.5e-2,
  extreme: { output: 3e-2, gradient: 0.25 },
  negligible: 1e-4,
};

const rowFactor = 20;

/** Options of `runConformance`. */
export interface ConformanceOptions {
  /** Default: from the environment variable STICKBREAKING_SEED, or a fresh one. */
  seed?: number;
  /** Rounds every floating-point input to bfloat16 first, so that storing it as bfloat16 loses nothing. */
  bfloat16Inputs?: boolean;
  /** Which cases; default all. */
  only?: (testCase: ConformanceCase) => boolean;
  /** Called with each case's result as it arrives. */
  onResult?: (result: ConformanceResult) => void;
}

/** The result of one case. */
export interface ConformanceResult {
  name: string;
  /** The relative error in norm of each output and gradient, by its name. */
  errors: Record<string, number>;
  /** One line each; empty if the case passes. */
  failures: string[];
}

/** All cases of the suite. */
export function conformanceCases(): ConformanceCase[] {
  return [...attentionCases(), ...composedCases(), ...decodeCases(), ...opCases(), ...fp8Cases()];
}

/** Inputs and expected values of one case: the same for every backend, whatever other cases ran. */
export function prepareCase(testCase: ConformanceCase, seed: number, bfloat16Inputs = false): PreparedCase {
  return testCase.prepare(seededRandom(seed, testCase.name), bfloat16Inputs ? roundToBfloat16 : (values) => values);
}

/** Runs a prepared case on the active backend. */
export async function measureCase(
  testCase: ConformanceCase,
  prepared: PreparedCase,
  tolerances: Tolerances,
): Promise<ConformanceResult> {
  const tensors = tidy(() => prepared.run());
  const actual = await Promise.all(tensors.map(async (one) => Float32Array.from(await one.data())));
  for (const one of tensors) one.dispose();
  const result: ConformanceResult = { name: testCase.name, errors: {}, failures: [] };
  if (actual.length !== prepared.expected.length)
    result.failures.push(`${actual.length} results; expected ${prepared.expected.length}`);
  prepared.expected.forEach((expected, i) => {
    const limits = testCase.extreme ? tolerances.extreme : tolerances;
    compare(expected, actual[i]!, limits?.[expected.kind], tolerances.negligible ?? 0, result);
  });
  if (result.failures.length === 0) result.failures.push(...(prepared.exact?.(actual) ?? []));
  return result;
}

function compare(
  expected: Expected,
  actual: Float32Array,
  tolerance: number | undefined,
  negligible: number,
  result: ConformanceResult,
): void {
  const { name, values, row } = expected;
  const fail = (line: string) => result.failures.push(`${name}: ${line}`);
  if (actual.length !== values.length) return void fail(`${actual.length} values; expected ${values.length}`);
  const isGood = (value: number, i: number) =>
    Number.isFinite(value) ? Number.isFinite(values[i]) : Object.is(value, values[i]);
  const bad = actual.findIndex((value, i) => !isGood(value, i));
  if (bad >= 0) return void fail(`value ${bad} is ${actual[bad]}; expected ${values[bad]}`);
  const least = Math.max(expected.leastNorm ?? 0, negligible * Math.sqrt(values.length), 1e-20);
  const scale = Math.max(norm(values, 0, values.length), least);
  const error = distance(actual, values, 0, values.length) / scale;
  result.errors[name] = error;
  if (tolerance === undefined) return;
  if (error > tolerance) fail(`relative error ${error.toExponential(2)}; at most ${tolerance} is allowed`);
  // A norm over a whole pack would hide a short document that is wrong, so no single row may be far off either.
  const usual = scale / Math.sqrt(values.length / row || 1);
  for (let at = 0; at < values.length; at += row) {
    const off = distance(actual, values, at, row) / Math.max(usual, norm(values, at, row));
    if (off > rowFactor * tolerance)
      return void fail(`row ${at / row} is off by ${off.toExponential(2)} of a usual row's norm`);
  }
}

/** Of what is finite: the rest has been compared. */
function norm(x: Float64Array, at: number, length: number): number {
  let total = 0;
  for (let i = at; i < at + length; i++) if (Number.isFinite(x[i])) total += x[i]! ** 2;
  return Math.sqrt(total);
}

function distance(a: Float32Array, b: Float64Array, at: number, length: number): number {
  let total = 0;
  for (let i = at; i < at + length; i++) if (Number.isFinite(b[i])) total += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(total);
}

/**
 * Runs the suite on a backend, which becomes the active one. Needs no test framework.
 *
 * @param backend its name, as `selectBackend` takes it
 * @returns one result for each case; the backend passes if no result has a failure
 */
export async function runConformance(
  backend: string,
  tolerances: Tolerances = float32Tolerances,
  options: ConformanceOptions = {},
): Promise<ConformanceResult[]> {
  const seed = options.seed ?? chooseSeed();
  console.info(`${backend}: inputs of seed ${seed} (${SEED_VARIABLE}=${seed} repeats them)`);
  await selectBackend(backend);
  const results: ConformanceResult[] = [];
  for (const testCase of conformanceCases().filter(options.only ?? (() => true))) {
    const result = await measureCase(testCase, prepareCase(testCase, seed, options.bfloat16Inputs), tolerances);
    options.onResult?.(result);
    results.push(result);
  }
  return results;
}
