/** The checks that public ops make of their inputs; each failure is one line that says what was expected. */
import { UserError } from '@stickbreaking/base';
import type { Rank, Tensor } from '@tensorflow/tfjs-core';

/** What an int32 and a float32 hold at most: kernels receive nothing larger. */
const LARGEST_INT = 2 ** 31 - 1;
const LARGEST_FLOAT = 3.4028234663852886e38;

/** Whole numbers, such as tokens or document boundaries. */
export type Ints = Int32Array | readonly number[];

/** The type of a tensor with as many axes as `Shape` has sizes. */
type OfShape<Shape extends readonly number[]> = Tensor<Ranks[Shape['length'] & keyof Ranks]>;
type Ranks = { 1: Rank.R1; 2: Rank.R2; 3: Rank.R3; 4: Rank.R4 };

/**
 * Throws unless `tensor` has the shape; -1 stands for any size. Public ops take a `Tensor` of any rank, as tfjs's own
 * `grads` hands to the function it differentiates; from here on its rank is known.
 */
export function checkShape<const Shape extends readonly number[]>(
  op: string,
  name: string,
  tensor: Tensor,
  shape: Shape,
): asserts tensor is OfShape<Shape> {
  const fits =
    tensor.shape.length === shape.length && shape.every((size, axis) => size === -1 || size === tensor.shape[axis]);
  if (!fits) {
    const expected = shape.map((size) => (size === -1 ? 'any' : size)).join(', ');
    throw new UserError(`${op}: ${name} has shape [${tensor.shape.join(', ')}]; expected [${expected}].`);
  }
}

export function checkDtype(op: string, name: string, tensor: Tensor, dtype: 'float32' | 'int32'): void {
  if (tensor.dtype !== dtype) throw new UserError(`${op}: ${name} is ${tensor.dtype}; expected ${dtype}.`);
}

/** Throws unless `value` is a whole number from `least` to `most`; without those, one that an int32 can hold. */
export function checkInt(op: string, name: string, value: unknown, least = -LARGEST_INT - 1, most = LARGEST_INT): void {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return;
  throw new UserError(`${op}: ${name} is ${value}; expected a whole number from ${least} to ${most}.`);
}

/** Throws unless `value` is a finite number that a float32 can hold, from `least`. */
export function checkNumber(op: string, name: string, value: unknown, least = -LARGEST_FLOAT): void {
  if (typeof value === 'number' && value >= least && value <= LARGEST_FLOAT) return;
  const expected = least === -LARGEST_FLOAT ? 'a finite number' : `a finite number from ${least}`;
  throw new UserError(`${op}: ${name} is ${value}; expected ${expected} that float32 can hold.`);
}

/** Whole numbers as an Int32Array, which by itself would cut or wrap those that are none. */
export function checkInts(op: string, name: string, values: Ints, least?: number): Int32Array {
  for (let i = 0; i < values.length; i++) checkInt(op, `${name}[${i}]`, values[i], least);
  return Int32Array.from(values);
}

/** The document boundaries as an Int32Array; throws unless they run from 0 to `total` without falling. */
export function checkCuSeqlens(op: string, name: string, cuSeqlens: Ints, total: number): Int32Array {
  const boundaries = checkInts(op, name, cuSeqlens);
  if (boundaries.length < 1 || boundaries[0] !== 0 || boundaries[boundaries.length - 1] !== total) {
    throw new UserError(
      `${op}: ${name} must begin with 0 and end with ${total}, the number of rows; got [${head(boundaries)}].`,
    );
  }
  for (let s = 1; s < boundaries.length; s++) {
    if (boundaries[s]! < boundaries[s - 1]!) {
      throw new UserError(
        `${op}: ${name} must not fall, but entry ${s} (${boundaries[s]}) is below the one before (${boundaries[s - 1]}).`,
      );
    }
  }
  return boundaries;
}

/** Checks q, k, v and their boundaries together; returns the boundaries. */
export function checkAttention(
  op: string,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { cuSeqlens: Ints; cuSeqlensK?: Ints; scale?: number },
): { cuSeqlens: Int32Array; cuSeqlensK: Int32Array; scale: number } {
  for (const [name, tensor] of [
    ['q', q],
    ['k', k],
    ['v', v],
  ] as const)
    checkDtype(op, name, tensor, 'float32');
  checkShape(op, 'q', q, [-1, -1, -1]);
  const [numQueries, numHeads, headDim] = q.shape as [number, number, number];
  checkShape(op, 'k', k, [-1, -1, headDim]);
  checkShape(op, 'v', v, k.shape);
  const [numKeys, numKvHeads] = k.shape as [number, number, number];
  if (numKvHeads === 0 || numHeads % numKvHeads !== 0) {
    throw new UserError(
      `${op}: ${numHeads} query heads cannot be shared among ${numKvHeads} key-value heads; the first must be a multiple of the second.`,
    );
  }
  const packing = checkPacking(op, numQueries, numKeys, options);
  const scale = options.scale ?? 1 / Math.sqrt(headDim);
  checkNumber(op, 'scale', scale);
  return { ...packing, scale };
}

/** Checks the boundaries of queries and keys together: the queries of a document are the last of its keys. */
export function checkPacking(
  op: string,
  numQueries: number,
  numKeys: number,
  options: { cuSeqlens: Ints; cuSeqlensK?: Ints },
): { cuSeqlens: Int32Array; cuSeqlensK: Int32Array } {
  const cuSeqlens = checkCuSeqlens(op, 'cuSeqlens', options.cuSeqlens, numQueries);
  const cuSeqlensK = checkCuSeqlens(op, 'cuSeqlensK', options.cuSeqlensK ?? options.cuSeqlens, numKeys);
  if (cuSeqlens.length !== cuSeqlensK.length) {
    throw new UserError(
      `${op}: cuSeqlens names ${cuSeqlens.length - 1} documents and cuSeqlensK ${cuSeqlensK.length - 1}; expected the same number.`,
    );
  }
  for (let s = 1; s < cuSeqlens.length; s++) {
    const queries = cuSeqlens[s]! - cuSeqlens[s - 1]!;
    const keys = cuSeqlensK[s]! - cuSeqlensK[s - 1]!;
    if (queries > keys) {
      throw new UserError(
        `${op}: document ${s - 1} has ${queries} queries but only ${keys} keys; its queries are the last of its keys.`,
      );
    }
  }
  return { cuSeqlens, cuSeqlensK };
}

function head(values: Int32Array): string {
  return values.length <= 6 ? values.join(', ') : `${values.slice(0, 3).join(', ')}, …, ${values[values.length - 1]}`;
}
