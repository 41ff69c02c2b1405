/**
 * The element-wise ops of tfjs that are frequent in a training step, on the C++ library: float32, with equal shapes or an
 * operand that repeats along rows or columns. Everything else is left to tfjs's own kernels.
 */
import type { TfjsKernel } from '@stickbreaking/core/backend';
import { broadcast_util, util } from '@tensorflow/tfjs-core';
import type { KernelTools, NativeTfjsKernels } from './backend.js';
import { nativeFunction } from './library.js';

/** One of the C++ library's operations on two tensors, by its number there. */
function combine(operation: number): TfjsKernel<'Add', KernelTools> {
  return ({ a, b }, _attrs, { read, make, allocate }) => {
    if (a.dtype !== 'float32' || b.dtype !== 'float32') return undefined;
    const shape = broadcast_util.assertAndGetBroadcastShape(a.shape, b.shape);
    const plan = planOf(shape, a.shape, b.shape);
    if (!plan) return undefined;
    const y = allocate(plan.outer * plan.inner);
    const run = nativeFunction(
      'void sb_combine(int32_t operation, int64_t outer, int64_t inner, void *a, int64_t aOuter, int64_t aInner, void *b, int64_t bOuter, int64_t bInner, void *y)',
    );
    run(operation, plan.outer, plan.inner, read(a), ...plan.a, read(b), ...plan.b, y);
    return make(shape, 'float32', y);
  };
}

/** y += x */
export function accumulate(x: ReturnType<KernelTools['read']>, y: Float32Array): void {
  nativeFunction('void sb_accumulate(int64_t count, void *x, void *y)')(y.length, x, y);
}

interface Plan {
  outer: number;
  inner: number;
  /** How far the operand moves for a step along `outer` and along `inner`. */
  a: [number, number];
  b: [number, number];
}

/** The result as [outer, inner], rows as long as can be, such that each operand moves or repeats along either. */
function planOf(shape: readonly number[], a: readonly number[], b: readonly number[]): Plan | undefined {
  for (let cut = 0; cut < Math.max(1, shape.length); cut++) {
    const outer = product(shape.slice(0, cut));
    const inner = product(shape.slice(cut));
    const [forA, forB] = [stridesOf(a, shape, cut, inner), stridesOf(b, shape, cut, inner)];
    if (forA && forB) return { outer, inner, a: forA, b: forB };
  }
  return undefined;
}

function stridesOf(own: readonly number[], shape: readonly number[], cut: number, inner: number) {
  const padded = [...new Array<number>(shape.length - own.length).fill(1), ...own];
  const along = (from: number, to: number): 'moves' | 'repeats' | undefined => {
    const sizes = padded.slice(from, to);
    if (sizes.every((size, i) => size === shape[from + i])) return 'moves';
    return sizes.every((size) => size === 1) ? 'repeats' : undefined;
  };
  const [rows, columns] = [along(0, cut), along(cut, shape.length)];
  if (!rows || !columns) return undefined;
  const step = columns === 'moves' ? 1 : 0;
  return [rows === 'repeats' ? 0 : step ? inner : 1, step] as [number, number];
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((x, y) => x * y, 1);
}

export const elementwiseKernels = {
  Add: combine(0),
  Sub: combine(1),
  Multiply: combine(2),
  RealDiv: combine(3),

  AddN(tensors, _attrs, { read, make }) {
    if (tensors.some(({ dtype }) => dtype !== 'float32')) return undefined;
    const y = (read(tensors[0]!) as Float32Array).slice();
    for (const one of tensors.slice(1)) accumulate(read(one), y);
    return make(tensors[0]!.shape, 'float32', y);
  },

  /** From the pool: tfjs makes an array of zeros anew and then fills that. */
  Fill(_inputs, { shape, value, dtype }, { make, allocate, zeros }) {
    if (typeof value !== 'number' || (dtype ?? 'float32') !== 'float32') return undefined;
    const length = product(shape);
    return make(shape, 'float32', value === 0 ? zeros(length) : allocate(length).fill(value));
  },

  /** Sums over the last axes or over the first ones. */
  Sum({ x }, { axis, keepDims }, { read, make, allocate }) {
    const rank = x.shape.length;
    const axes = util.parseAxisParam(axis, x.shape).sort((p, q) => p - q);
    const run = axes.every((one, i) => one === axes[0]! + i);
    const [first, last] = [axes[0] ?? 0, axes[axes.length - 1] ?? -1];
    if (x.dtype !== 'float32' || !run || axes.length === 0 || (last !== rank - 1 && first !== 0)) return undefined;
    const rest = x.shape.filter((_, i) => !axes.includes(i));
    const shape = keepDims ? x.shape.map((size, i) => (axes.includes(i) ? 1 : size)) : rest;
    const y = allocate(product(rest));
    const summed = product(axes.map((one) => x.shape[one]!));
    const over = last === rank - 1 ? 'rows' : 'columns';
    const [outer, inner] = over === 'rows' ? [y.length, summed] : [summed, y.length];
    nativeFunction(`void sb_sum_${over}(int64_t outer, int64_t inner, void *x, void *y)`)(outer, inner, read(x), y);
    return make(shape, 'float32', y);
  },
} satisfies NativeTfjsKernels;
