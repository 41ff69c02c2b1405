/** The conformance suite's cases of TensorFlow.js's own ops that models use and backends may hold in several forms. */
import { concat, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core';
import { linear } from '../ops/linear.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';

export function tfjsCases(): ConformanceCase[] {
  return [concatCase(3, [5, 1, 64]), concatCase(700, [1, 3]), concatCase(65, [64, 7, 130]), mixedConcatCase(130, 24)];
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
