/** What one case of the table is: inputs drawn at random, what float64 makes of them, and the op to hold against it. */
import type { Random } from '@stickbreaking/base';
import { addN, grads, keep, type Tensor } from '@tensorflow/tfjs-core';

export interface HeldCase {
  /** Says the op, the sizes and what is special; unique in the table. */
  name: string;
  /** Logits far outside what training sees; a backend may hold these to tolerances of their own. */
  extreme?: boolean;
  /** Too much work for tfjs's plain cpu backend in a test suite; another case covers the same with fewer heads. */
  large?: boolean;
  /** @param input passes every floating-point input through, so that a run may round them all to bfloat16 */
  prepare(random: Random, input: (values: Float32Array) => Float32Array): PreparedCase;
}

export interface PreparedCase {
  expected: Expected[];
  /** Outputs and gradients on the active backend, in the order of `expected`. */
  run(): Tensor[];
  /** What must hold to the bit; each string is one line about what does not. */
  exact?(actual: readonly Float32Array[]): string[];
}

export interface Expected {
  name: string;
  values: Float64Array;
  /** Length of a row, which is compared on its own beside the whole. */
  row: number;
  kind: 'output' | 'gradient';
  /** Errors are relative to this norm where the values' own is smaller: sums whose terms cancel. */
  leastNorm?: number;
}

export const output = (name: string, values: Float64Array, row: number): Expected => ({
  name,
  values,
  row,
  kind: 'output',
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
