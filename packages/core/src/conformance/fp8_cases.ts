/** The conformance suite's cases of matmuls with operands in eight bits, and of ops that write such operands beside their results. */
import {
  mul,
  type Scalar,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tensor2d,
  variable,
} from '@tensorflow/tfjs-core';
import type { MatmulPrecision } from '../kernels.js';
import { linear, linears } from '../ops/linear.js';
import { residualRmsNorm } from '../ops/residual_rms_norm.js';
import { swiGlu } from '../ops/swiglu.js';
import { runKernel } from '../run_kernel.js';
import { valueAndGradients } from '../value_and_gradients.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';
import { product64 } from './float64/fp8.js';
import type { Values } from './float64/packed.js';

const fp8 = { precision: 'fp8' } as const;

export function fp8Cases(): ConformanceCase[] {
  return [
    forwardCase(37, 64, [48, 32]),
    forwardCase(16, 144, [32]),
    oneWeightCase(33, 80, 48),
    sideBySideCase(40, [64, 32], 48),
    hintCase(20, 64, 96, 1),
    hintCase(20, 48, 112, 0.22),
  ];
}

/** A row of zeros, and one whose numbers lie far apart, among others. */
function rows(values: Float32Array, columns: number): Float32Array {
  values.fill(0, columns, 2 * columns);
  for (let c = 0; c < columns; c++) values[2 * columns + c]! *= 2 ** -(c % 24);
  return values;
}

function turned(x: Values, columns: number): Float64Array {
  const count = x.length / columns;
  return Float64Array.from({ length: x.length }, (_, i) => x[(i % count) * columns + Math.floor(i / count)]!);
}

function forwardCase(N: number, C: number, outs: number[]): ConformanceCase {
  return {
    name: `linears in fp8 [${N}, ${C}] to ${outs.join(' and ')}`,
    prepare(random, input) {
      const x = input(rows(random.normals(N * C), C));
      const weights = outs.map((out) => input(rows(random.normals(out * C), C)));
      return {
        expected: weights.map((weight, i) => output(`y ${i}`, product64(x, weight, C), outs[i]!)),
        run: () =>
          linears(
            tensor2d(x, [N, C]),
            weights.map((weight, i) => tensor2d(weight, [outs[i]!, C])),
            fp8,
          ) as Tensor[],
      };
    },
  };
}

function oneWeightCase(N: number, C: number, F: number): ConformanceCase {
  return {
    name: `linear in fp8 [${N}, ${C}] to ${F}, with gradients`,
    prepare(random, input) {
      const [x, weight] = [input(rows(random.normals(N * C), C)), input(rows(random.normals(F * C), C))];
      const dy = input(rows(random.normals(N * F), F));
      const dWeight = new Float64Array(F * C);
      for (let n = 0; n < N; n++)
        for (let f = 0; f < F; f++) for (let c = 0; c < C; c++) dWeight[f * C + c]! += dy[n * F + f]! * x[n * C + c]!;
      return {
        expected: [
          output('y', product64(x, weight, C), F),
          gradient('dx', product64(dy, turned(weight, C), F), C),
          gradient('dWeight', dWeight, C),
        ],
        run: () =>
          withGradients(
            (a, b) => [linear(a!, b!, fp8)],
            [tensor2d(x, [N, C]), tensor2d(weight, [F, C])],
            [tensor2d(dy, [N, F])],
          ),
      };
    },
  };
}

/**
 * The gradient of the input of several weights, from gradients that lie as a backend lays them: they are results of `linears`
 * of rows that each have a single 1, and so exact.
 */
function sideBySideCase(N: number, outs: number[], C: number): ConformanceCase {
  return {
    name: `gradient of the input of weights to ${outs.join(' and ')} in fp8, [${N}, ${C}]`,
    prepare(random, input) {
      const K = 24;
      const chosen = Array.from({ length: N }, () => random.integer(K));
      const ones = new Float32Array(N * K);
      chosen.forEach((k, n) => {
        ones[n * K + k] = 1;
      });
      const sources = outs.map((out) => input(random.normals(out * K)));
      const weights = outs.map((out) => input(rows(random.normals(out * C), C)));
      const total = outs.reduce((a, b) => a + b);
      const dys = new Float64Array(N * total);
      chosen.forEach((k, n) => {
        let at = n * total;
        sources.forEach((source, i) => {
          for (let f = 0; f < outs[i]!; f++) dys[at++] = source[f * K + k]!;
        });
      });
      const below = Float32Array.from(weights.flatMap((weight) => [...weight]));
      return {
        expected: [gradient('dx', product64(dys, turned(below, C), total), C)],
        run: () => {
          const parts = linears(
            tensor2d(ones, [N, K]),
            sources.map((source, i) => tensor2d(source, [outs[i]!, K])),
          );
          const given = (parts as Tensor[]).flatMap((dy, i) => [dy, tensor2d(weights[i]!, [outs[i]!, C])]);
          return runKernel('LinearsGrad', given, fp8);
        },
      };
    },
  };
}

/** A feed-forward layer between its norms, forward and back: with `readBy` and without it every bit is the same. */
function hintCase(N: number, C: number, F: number, multiplier: number): ConformanceCase {
  const shapes: [number, number][] = [
    [N, C],
    [N, C],
    [F, C],
    [F, C],
    [C, F],
  ];
  return {
    name: `operands in fp8 beside results, [${N}, ${C}] of ${F} units, multiplier ${multiplier}`,
    prepare(random, input) {
      const values = shapes.map(([rows, columns]) => input(random.normals(rows * columns, 1 / Math.sqrt(columns))));
      const weight = input(random.normals(C));
      const dy = input(random.normals(N * C));
      const layer = (x: Tensor, branch: Tensor, gate: Tensor, up: Tensor, down: Tensor, readBy: MatmulPrecision) => {
        const options = { multiplier, readBy };
        const norm = tensor1d(weight) as Tensor1D;
        const before = residualRmsNorm(x, branch, norm, options);
        const [gated, raised] = linears(before.normalised, [gate, up], fp8);
        const branchOut = linear(swiGlu(gated, raised, { readBy }), down, fp8);
        return residualRmsNorm(before.sum, branchOut, norm, options).normalised;
      };
      const run = (readBy: MatmulPrecision): Tensor[] => {
        const variables = values.map((one, i) => variable(tensor2d(one, shapes[i]!)));
        const [x, branch, gate, up, down] = variables as unknown as [Tensor2D, Tensor2D, Tensor2D, Tensor2D, Tensor2D];
        const forward = () => layer(x, branch, gate, up, down, readBy);
        const { value, gradients } = valueAndGradients(
          () => sum(mul(forward(), tensor2d(dy, [N, C]))) as Scalar,
          variables,
        );
        value.dispose();
        const results = [forward(), ...gradients.map((one) => one!)];
        for (const one of variables) one.dispose();
        return results;
      };
      const names = ['y', 'dx', 'dBranch', 'the weight of gate', 'the weight of up', 'the weight of down'];
      const sizes = [N * C, ...shapes.map(([rows, columns]) => rows * columns)];
      return {
        // What the values are is the other cases' affair; these need only be finite, and the same.
        expected: ['', ' with readBy'].flatMap((which) =>
          names.map((name, i) => gradient(`${name}${which}`, new Float64Array(sizes[i]!), sizes[i]!, 1e9)),
        ),
        run: () => [...run('default'), ...run('fp8')],
        exact: (actual) =>
          names.flatMap((name, i) =>
            actual[i]!.every((value, j) => value === actual[i + names.length]![j])
              ? []
              : [`${name} is another one with readBy`],
          ),
      };
    },
  };
}
