/** The conformance suite's cases of TensorFlow.js's own ops along axes: gathers, running sums, softmax, reductions, broadcasts. */
import type { Random } from '@stickbreaking/base';
import * as tf from '@tensorflow/tfjs-core';
import { linear } from '../ops/linear.js';
import { type ConformanceCase, output } from './case.js';

const { Infinity: inf, NaN: none } = globalThis;

export function tfjsAxisCases(): ConformanceCase[] {
  return [
    gathers({ x: [9, 64], indices: [4] }),
    gathers({ x: [7, 2, 33], indices: [5] }),
    gathers({ x: [5, 3, 7], indices: [2, 4], axis: 1 }),
    gathers({ x: [4, 6], indices: [9], axis: -1 }),
    gathers({ x: [6, 8], indices: [] }),
    gathers({ x: [3, 5, 70], indices: [3, 4], axis: 1, batchDims: 1 }),
    gathers({ x: [2, 3, 4, 8], indices: [2, 5], axis: 2, batchDims: 1 }),
    gathers({ x: [6, 8], indices: [0] }),
    gathers({ x: [6, 0], indices: [3] }),
    gathers({ x: [11, 5], indices: [70], dtype: 'int32' }),
    gathers({ x: [11, 5], indices: [70], dtype: 'bool' }),
    gathers({ x: [130, 24], indices: [40], isProduct: true }),
    gathers({ x: [130, 70], indices: [40], isProduct: true }),
    gathers({ x: [40, 401], indices: [1500] }),
    gathers({ x: [3, 4], indices: [6], values: [1, inf, none, 0, -inf, 2, 3, none, 4, 5, 6, 7] }),
    ...[false, true].flatMap((exclusive) =>
      [false, true].flatMap((reverse) => [
        runningSums({ shape: [3, 1000], axis: 1, exclusive, reverse }),
        runningSums({ shape: [2, 257, 5], axis: 1, exclusive, reverse }),
        runningSums({ shape: [70, 3], axis: 0, exclusive, reverse }),
        runningSums({ shape: [6], axis: 0, exclusive, reverse, values: [1, inf, 2, 3, none, 4] }),
        runningSums({ shape: [2, 4], axis: 1, exclusive, reverse, values: [1e30, -1e30, 1, 2, -inf, 5, 6, 7] }),
      ]),
    ),
    runningSums({ shape: [1], axis: 0, exclusive: true, reverse: false }),
    runningSums({ shape: [0, 5], axis: 1, exclusive: false, reverse: false }),
    runningSums({ shape: [4, 0], axis: 1, exclusive: false, reverse: true }),
    runningSums({ shape: [65, 70], axis: 1, exclusive: true, reverse: true, isProduct: true }),
    ...[tf.softmax, tf.logSoftmax].flatMap((op) => [
      ofRows(op, { shape: [3, 7] }),
      ofRows(op, { shape: [5, 1] }),
      ofRows(op, { shape: [0, 7] }),
      ofRows(op, { shape: [2, 3, 257] }),
      ofRows(op, { shape: [2, 50_304] }),
      ofRows(op, { shape: [65, 70], isProduct: true }),
      ofRows(op, { shape: [9, 130], deviation: 200 }),
      ofRows(op, { shape: [2, 4], values: [1, -inf, 2, -inf, -1e30, 0, 3, 1] }),
      ofRows(op, { shape: [3, 3], values: [1, none, 2, inf, 1, 2, -inf, -inf, -inf] }),
    ]),
    ofEach('signs', tf.sign, (value) => (value > 0 ? 1 : value < 0 ? -1 : 0)),
    ofEach('rectifier', tf.relu, (value) => Math.max(value, 0)),
    ofEach(
      'maximum with 0.5',
      (x) => tf.maximum(x, 0.5),
      (value) => Math.max(value, 0.5),
    ),
    ofEach(
      'minimum with 0.5',
      (x) => tf.minimum(x, 0.5),
      (value) => Math.min(value, 0.5),
    ),
    reduces('sum', { shape: [3, 70, 5] }, 1),
    reduces('sum', { shape: [3, 7, 5, 6] }, [0, 2]),
    reduces('sum', { shape: [3, 7, 5, 66] }, [1, 2]),
    reduces('sum', { shape: [3, 0, 5] }, 1),
    reduces('mean', { shape: [3, 70, 5] }, -2),
    reduces('max', { shape: [3, 70, 5] }, 1),
    reduces('max', { shape: [300, 7] }, 0),
    reduces('max', { shape: [4, 3], values: [1, none, inf, -inf, -inf, -inf, 1, inf, 2, 3, 2, 1] }, 1),
    broadcasts([4, 3, 5], [4, 1, 5]),
    broadcasts([2, 1, 3, 1], [1, 4, 1, 5]),
    broadcasts([3, 1, 70], [3, 5, 70], true),
    broadcasts([2, 0, 3], [2, 1, 3]),
  ];
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1);

interface Input {
  shape: number[];
  /** Default: drawn. */
  values?: readonly number[];
  deviation?: number;
  /** As a matmul gives it, which a backend may hold in fewer bits and in rows of another length; of two axes. */
  isProduct?: boolean;
}

const named = ({ shape, values, deviation, isProduct }: Input) =>
  `[${shape.join(', ')}]${values ? ` of ${values.join(' ')}` : ''}${deviation ? ` of ±${deviation}` : ''}${isProduct ? ', a matmul’s result' : ''}`;

function draw({ shape, values, deviation }: Input, random: Random, input: (values: Float32Array) => Float32Array) {
  return input(values ? Float32Array.from(values) : random.normals(sizeOf(shape), deviation));
}

function given({ shape, isProduct }: Input, values: Float32Array): tf.Tensor {
  const x = tf.tensor(values, shape);
  return isProduct ? linear(x as tf.Tensor2D, tf.eye(shape[1]!)) : x;
}

/** A case of one op of floats, held to the same in float64. */
function ofOne(
  name: string,
  what: Input,
  run: (x: tf.Tensor) => tf.Tensor,
  expect: (x: Float64Array) => Float64Array,
  row = what.shape.at(-1)!,
): ConformanceCase {
  return {
    name: `${name} of ${named(what)}`,
    extreme: what.deviation !== undefined,
    prepare(random, input) {
      const values = draw(what, random, input);
      return { expected: [output('y', expect(Float64Array.from(values)), row)], run: () => [run(given(what, values))] };
    },
  };
}

interface Gather {
  x: number[];
  indices: number[];
  axis?: number;
  batchDims?: number;
  dtype?: 'int32' | 'bool';
  isProduct?: boolean;
  values?: readonly number[];
}

function gathers({ x: shape, indices, axis = 0, batchDims = 0, dtype, ...more }: Gather): ConformanceCase {
  const what = { shape, ...more };
  const along = axis < 0 ? axis + shape.length : axis;
  const details = [`axis ${axis}`, ...(batchDims ? [`${batchDims} in common`] : []), ...(dtype ? [dtype] : [])].join(
    ', ',
  );
  return {
    name: `gather of [${indices.join(', ')}] from ${named(what)}, ${details}`,
    prepare(random, input) {
      const drawn = draw(what, random, input);
      const values = dtype ? drawn.map((x) => (dtype === 'bool' ? Number(x > 0) : Math.round(x * 1e3) + 0)) : drawn;
      const [count, width] = [shape[along]!, sizeOf(shape.slice(along + 1))];
      const chosen = Int32Array.from({ length: sizeOf(indices) }, () => random.integer(count));
      const batches = sizeOf(shape.slice(0, batchDims));
      const each = chosen.length / batches;
      const outer = sizeOf(shape.slice(batchDims, along));
      const expected = Float64Array.from({ length: batches * outer * each * width }, (_, i) => {
        const row = Math.floor(i / width);
        const o = Math.floor(row / each);
        return values[(o * count + chosen[Math.floor(o / outer) * each + (row % each)]!) * width + (i % width)]!;
      });
      return {
        expected: [output('y', expected, width || 1)],
        run: () => {
          const x = dtype ? tf.tensor(Array.from(values), shape, dtype) : given(what, values);
          return [tf.gather(x, tf.tensor(chosen, indices, 'int32'), axis, batchDims)];
        },
        exact: ([y]) =>
          y!.every((value, i) => Object.is(value, expected[i])) ? [] : ['values were changed on the way'],
      };
    },
  };
}

function runningSums({
  axis,
  exclusive,
  reverse,
  ...what
}: Input & { axis: number; exclusive: boolean; reverse: boolean }): ConformanceCase {
  const { shape } = what;
  const [count, inner] = [shape[axis]!, sizeOf(shape.slice(axis + 1))];
  const how = `running sums, axis ${axis}${exclusive ? ', exclusive' : ''}${reverse ? ', reverse' : ''},`;
  return ofOne(
    how,
    what,
    (x) => tf.cumsum(x, axis, exclusive, reverse),
    (x) => {
      const y = new Float64Array(x.length);
      for (let line = 0; line < x.length / (count || 1); line++) {
        const first = Math.floor(line / inner) * count * inner + (line % inner);
        let sum = 0;
        for (let i = 0; i < count; i++) {
          const at = first + (reverse ? count - 1 - i : i) * inner;
          const next = sum + x[at]!;
          y[at] = exclusive ? sum : next;
          sum = next;
        }
      }
      return y;
    },
    shape.at(-1) || 1,
  );
}

function ofRows(op: typeof tf.softmax | typeof tf.logSoftmax, what: Input): ConformanceCase {
  const isLogarithm = op === tf.logSoftmax;
  const columns = what.shape.at(-1)!;
  return ofOne(
    isLogarithm ? 'logarithm of softmax' : 'softmax',
    what,
    (x) => op(x),
    (x) => {
      const y = new Float64Array(x.length);
      for (let at = 0; at < x.length; at += columns) {
        const row = x.subarray(at, at + columns);
        const most = row.reduce((a, b) => Math.max(a, b), -inf);
        const total = row.reduce((sum, value) => sum + Math.exp(value - most), 0);
        for (const [i, value] of row.entries()) {
          y[at + i] = isLogarithm ? value - most - Math.log(total) : Math.exp(value - most) / total;
        }
      }
      return y;
    },
  );
}

/** Of numbers one by one, among them zeros, infinities and NaN. */
function ofEach(name: string, op: (x: tf.Tensor) => tf.Tensor, expect: (value: number) => number): ConformanceCase {
  const values = [-2, -0, 0, 3, 1e-40, -1e-40, 0.75, inf, -inf, none];
  return ofOne(name, { shape: [values.length], values }, op, (x) => x.map(expect));
}

const reductions = { sum: tf.sum, mean: tf.mean, max: tf.max };

function reduces(name: keyof typeof reductions, what: Input, axis: number | number[]): ConformanceCase {
  const { shape } = what;
  const axes = new Set([axis].flat().map((d) => (d < 0 ? d + shape.length : d)));
  const out = shape.filter((_, d) => !axes.has(d));
  const count = sizeOf(shape.filter((_, d) => axes.has(d)));
  return ofOne(
    `${name} over axes ${[...axes].join(' and ')}`,
    what,
    (x) => reductions[name](x, axis),
    (x) => {
      const y = new Float64Array(sizeOf(out)).fill(name === 'max' ? -inf : 0);
      for (const [i, value] of x.entries()) {
        let [rest, at, stride] = [i, 0, 1];
        for (let d = shape.length - 1; d >= 0; d--) {
          const place = rest % shape[d]!;
          rest = Math.floor(rest / shape[d]!);
          if (axes.has(d)) continue;
          at += place * stride;
          stride *= shape[d]!;
        }
        y[at] = name === 'max' ? Math.max(y[at]!, value) : y[at]! + value;
      }
      return name === 'mean' ? y.map((sum) => sum / count) : y;
    },
    out.at(-1) || 1,
  );
}

/** A sum of tensors of as many axes, some of one element; both ways round, since backends index the two differently. */
function broadcasts(a: number[], b: number[], isQuotient = false): ConformanceCase {
  const shape = a.map((n, d) => (n === 1 ? b[d]! : n));
  const op = isQuotient ? tf.div : tf.add;
  return {
    name: `${isQuotient ? 'quotients' : 'sums'} of [${a.join(', ')}] and [${b.join(', ')}]`,
    prepare(random, input) {
      const draw = (size: number) => {
        const values = random.normals(size);
        return input(isQuotient ? values.map((x) => Math.abs(x) + 0.5) : values);
      };
      const [x, y] = [draw(sizeOf(a)), draw(sizeOf(b))];
      const at = (own: number[], i: number) => {
        let [rest, index, stride] = [i, 0, 1];
        for (let d = shape.length - 1; d >= 0; d--) {
          if (own[d] !== 1) index += (rest % shape[d]!) * stride;
          rest = Math.floor(rest / shape[d]!);
          stride *= own[d]!;
        }
        return index;
      };
      const expected = (swapped: boolean) =>
        Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
          const [u, v] = [x[at(a, i)]!, y[at(b, i)]!];
          if (!isQuotient) return u + v;
          return swapped ? v / u : u / v;
        });
      const row = shape.at(-1)!;
      return {
        expected: [output('y', expected(false), row), output('swapped', expected(true), row)],
        run: () => {
          const [u, v] = [tf.tensor(x, a), tf.tensor(y, b)];
          return [op(u, v), op(v, u)];
        },
      };
    },
  };
}
