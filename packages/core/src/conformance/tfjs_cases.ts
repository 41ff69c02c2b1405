/** The conformance suite's cases of TensorFlow.js's own ops, where a backend has kernels for them that take some care. */
import { concat, cumsum, softplus, type Tensor, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core';
import { linear } from '../ops/linear.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';

export function tfjsCases(): ConformanceCase[] {
  return [
    concatCase(3, [5, 1, 64]),
    concatCase(700, [1, 3]),
    concatCase(65, [64, 7, 130]),
    mixedConcatCase(130, 24),
    ...[1, 31, 256, 257, 4100].flatMap((columns) =>
      [false, true].map((reverse) => cumsumCase(3, columns, columns % 2 === 0, reverse)),
    ),
  ];
}

/** Along the last axis, of so many rows. */
function concatCase(rows: number, widths: readonly number[]): ConformanceCase {
  return {
    name: `concatenation of [${rows}, ${widths.join(' + ')}]`,
    prepare(random, input) {
      const parts = widths.map((width) => input(random.normals(rows * width)));
      const total = widths.reduce((sum, width) => sum + width, 0);
      const dy = input(random.normals(rows * total));
      const starts = widths.map((_, i) => widths.slice(0, i).reduce((sum, width) => sum + width, 0));
      const joined = new Float64Array(rows * total);
      const dParts = widths.map((width, p) => {
        const [part, start] = [parts[p]!, starts[p]!];
        return Float64Array.from(part, (value, i) => {
          const at = Math.floor(i / width) * total + start + (i % width);
          joined[at] = value;
          return dy[at]!;
        });
      });
      return {
        expected: [output('y', joined, total), ...dParts.map((values, p) => gradient(`dx${p}`, values, widths[p]!))],
        run: () =>
          withGradients(
            (...xs) => [concat(xs as Tensor2D[], 1)],
            parts.map((part, p) => tensor2d(part, [rows, widths[p]!])),
            [tensor2d(dy, [rows, total])],
          ),
      };
    },
  };
}

/** What a matmul gives, which a backend may hold in fewer bits, beside what the host gives. */
function mixedConcatCase(rows: number, columns: number): ConformanceCase {
  return {
    name: `concatenation of [${rows}, ${columns}] with a matmul's result`,
    prepare(random, input) {
      const [x, other] = [input(random.normals(rows * columns)), input(random.normals(rows * columns))];
      const identity = Float32Array.from({ length: columns ** 2 }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
      const joined = Float64Array.from({ length: 2 * rows * columns }, (_, i) => {
        const [row, column] = [Math.floor(i / (2 * columns)), i % (2 * columns)];
        return column < columns ? x[row * columns + column]! : other[row * columns + column - columns]!;
      });
      return {
        expected: [output('y', joined, 2 * columns)],
        run: () => {
          const product = linear(tensor2d(x, [rows, columns]), tensor2d(identity, [columns, columns]));
          return [concat([product, tensor2d(other, [rows, columns])], 1)];
        },
      };
    },
  };
}

function cumsumCase(rows: number, columns: number, exclusive: boolean, reverse: boolean): ConformanceCase {
  return {
    name: `running sums of [${rows}, ${columns}]${exclusive ? ', exclusive' : ''}${reverse ? ', reverse' : ''}`,
    prepare(random, input) {
      const [x, dy] = [0, 1].map(() => input(random.normals(rows * columns, 3))) as [Float32Array, Float32Array];
      const positive = Float64Array.from(x, (value) => Math.log1p(Math.exp(value)));
      const derivative = Float64Array.from(x, (value) => 1 / (1 + Math.exp(-value)));
      const along = (values: Float64Array | Float32Array, backwards: boolean) => {
        const sums = new Float64Array(values.length);
        for (let row = 0; row < rows; row++) {
          let sum = 0;
          for (let c = 0; c < columns; c++) {
            const at = row * columns + (backwards ? columns - 1 - c : c);
            sums[at] = exclusive ? sum : sum + values[at]!;
            sum += values[at]!;
          }
        }
        return sums;
      };
      const dx = along(dy, !reverse).map((value, i) => value * derivative[i]!);
      return {
        expected: [output('y', along(positive, reverse), columns), gradient('dx', dx, columns)],
        run: () =>
          withGradients(
            (a) => [cumsum(softplus(a as Tensor2D), 1, exclusive, reverse) as Tensor],
            [tensor2d(x, [rows, columns])],
            [tensor2d(dy, [rows, columns])],
          ),
      };
    },
  };
}
