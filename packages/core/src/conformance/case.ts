/** A case of the conformance suite: inputs drawn at random, the expected results from float64, and the op to compare. */
import type { Random } from '@stickbreaking/base';
import { addN, grads, keep, type Tensor } from '@tensorflow/tfjs-core';

/** A case before its inputs are drawn. */
export interface ConformanceCase {
  /** The op, the sizes and what is special; unique in the suite. */
  name: string;
  /** Logits far outside what training sees; these may have tolerances of their own. */
  extreme?: boolean;
  /** Too much work for tfjs's plain cpu backend in a test suite; another case covers the same with fewer heads. */
  large?: boolean;
  /**
   * Draws the inputs and computes the expected results.
   *
   * @param input a function that every floating-point input passes through, so that a run may round them to bfloat16
   */
  prepare(random: Random, input: (values: Float32Array) => Float32Array): PreparedCase;
}

export interface PreparedCase {
  expected: Expected[];
  /** Outputs and gradients on the active backend, in the order of `expected`. */
  run(): Tensor[];
  /** Checks what must be exact to the bit; each string is one line about what is not. */
  exact?(actual: readonly Float32Array[]): string[];
}

export interface Expected {
  name: string;
  /** One that is not finite is expected just so. */
  values: Float64Array;
  /** Length of a row; each row is also compared on its own. */
  row: number;
  kind: 'output' | 'gradient';
  /** Errors are relative to this norm if the values' own is smaller, as in sums whose terms cancel. */
  leastNorm?: number;
}

export const output = (name: string, values: Float64Array, row: number, leastNorm?: number): Expected => ({
  name,
  values,
  row,
  kind: 'output',
  leastNorm,
});
export const gradient = (name: string, values: Float64Array, row: number, leastNorm?: number): Expected => ({
  name,
  values,
  row,
  kind: 'gradient',
  leastNorm,
});

/** The outputs of `op`, then the gradients of Σ output · cotangent in every x; one forward. */
export function withGradients(
  op: (...xs: Tensor[]) => Tensor[],
  xs: Tensor[],
  cotangents: readonly (Tensor | undefined)[],
): Tensor[] {
  let outputs: Tensor[] = [];
  const gradients = grads((...inputs: Tensor[]) => {
    outputs = op(...inputs).map((tensor) => keep(tensor));
    return addN(outputs.flatMap((tensor, i) => (cotangents[i] ? [tensor.mul(cotangents[i]).sum()] : [])));
  })(xs);
  return [...outputs, ...gradients];
}
