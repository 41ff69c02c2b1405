/** Holds a backend to the table: every case drawn afresh, run, and compared with float64. */
import { chooseSeed, SEED_VARIABLE, seededRandom } from '@stickbreaking/base';
import { tidy } from '@tensorflow/tfjs-core';
import { selectBackend } from '../backends/select.js';
import { attentionCases } from './attention_cases.js';
import { roundToBfloat16 } from './bfloat16.js';
import type { Expected, HeldCase, PreparedCase } from './case.js';
import { opCases } from './op_cases.js';

/** Largest errors relative in norm, of a whole tensor. A single row may be off by `rowFactor` times as much. */
export interface Tolerances {
  output: number;
  gradient: number;
  /** The same for cases with extreme logits; without it those need only be finite. */
  extreme?: { output: number; gradient: number };
  /** Errors are relative to at least this, as a root mean square: below it a backend may lose what is left of a stick. */
  negligible?: number;
}

/** What the project asks of every backend that computes in float32. */
export const float32Tolerances: Tolerances = {
  output: 1e-4,
  gradient: 1e-4,
  extreme: { output: 1e-4, gradient: 1e-4 },
};

const rowFactor = 20;

export interface HeldOptions {
  /** Default: from the environment variable STICKBREAKING_SEED, or a fresh one. */
  seed?: number;
  /** Rounds every floating-point input to bfloat16 first, so that storing it so loses nothing. */
  bfloat16Inputs?: boolean;
  /** Which cases; default all. */
  only?: (held: HeldCase) => boolean;
  /** Called with each case's result as it arrives. */
  onResult?: (result: HeldResult) => void;
}

export interface HeldResult {
  name: string;
  /** Relative error in norm by the name of the output or gradient. */
  errors: Record<string, number>;
  /** One line each; empty where the case holds. */
  failures: string[];
}

export function tableOfCases(): HeldCase[] {
  return [...attentionCases(), ...opCases()];
}

/** Inputs and expected values of one case: the same for every backend, whatever other cases ran. */
export function prepareCase(held: HeldCase, seed: number, bfloat16Inputs = false): PreparedCase {
  return held.prepare(seededRandom(seed, held.name), bfloat16Inputs ? roundToBfloat16 : (values) => values);
}

/** Runs a prepared case on the active backend. */
export async function measureCase(held: HeldCase, prepared: PreparedCase, tolerances: Tolerances): Promise<HeldResult> {
  const tensors = tidy(() => prepared.run());
  const actual = await Promise.all(tensors.map(async (one) => Float32Array.from(await one.data())));
  for (const one of tensors) one.dispose();
  const result: HeldResult = { name: held.name, errors: {}, failures: [] };
  if (actual.length !== prepared.expected.length)
    result.failures.push(`${actual.length} results; expected ${prepared.expected.length}`);
  prepared.expected.forEach((expected, i) => {
    const limits = held.extreme ? tolerances.extreme : tolerances;
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
  result: HeldResult,
): void {
  const { name, values, row } = expected;
  const fail = (line: string) => result.failures.push(`${name}: ${line}`);
  if (actual.length !== values.length) return void fail(`${actual.length} values; expected ${values.length}`);
  const bad = actual.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) return void fail(`value ${bad} is ${actual[bad]}`);
  const least = Math.max(expected.leastNorm ?? 0, negligible * Math.sqrt(values.length), 1e-20);
  const scale = Math.max(norm(values, 0, values.length), least);
  const error = distance(actual, values, 0, values.length) / scale;
  result.errors[name] = error;
  if (tolerance === undefined) return;
  if (error > tolerance) fail(`relative error ${error.toExponential(2)}; at most ${tolerance} is allowed`);
  // A norm over a whole pack hides a short document that is wrong: no row may be far off on its own either.
  const usual = scale / Math.sqrt(values.length / row || 1);
  for (let at = 0; at < values.length; at += row) {
    const off = distance(actual, values, at, row) / Math.max(usual, norm(values, at, row));
    if (off > rowFactor * tolerance)
      return void fail(`row ${at / row} is off by ${off.toExponential(2)} of a usual row's norm`);
  }
}

function norm(x: Float64Array, at: number, length: number): number {
  let total = 0;
  for (let i = at; i < at + length; i++) total += x[i]! ** 2;
  return Math.sqrt(total);
}

function distance(a: Float32Array, b: Float64Array, at: number, length: number): number {
  let total = 0;
  for (let i = at; i < at + length; i++) total += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(total);
}

/**
 * Runs the table on a backend, which becomes the active one. Free of any test framework.
 *
 * @returns one result a case; the backend holds where no result has a failure
 */
export async function heldToTable(
  backend: string,
  tolerances: Tolerances = float32Tolerances,
  options: HeldOptions = {},
): Promise<HeldResult[]> {
  const seed = options.seed ?? chooseSeed();
  console.info(`${backend}: inputs of seed ${seed} (${SEED_VARIABLE}=${seed} repeats them)`);
  await selectBackend(backend);
  const results: HeldResult[] = [];
  for (const held of tableOfCases().filter(options.only ?? (() => true))) {
    const result = await measureCase(held, prepareCase(held, seed, options.bfloat16Inputs), tolerances);
    options.onResult?.(result);
    results.push(result);
  }
  return results;
}
