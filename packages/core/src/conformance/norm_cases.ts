/** The conformance suite's cases of the norms and the residual connection. */
import {
  eye,
  reshape,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor1d,
  tensor2d,
  tensor3d,
} from '@tensorflow/tfjs-core';
import { embedding } from '../ops/embedding.js';
import { headNorm } from '../ops/head_norm.js';
import { linears } from '../ops/linear.js';
import { residual } from '../ops/residual.js';
import { residualRmsNorm } from '../ops/residual_rms_norm.js';
import { rmsNorm } from '../ops/rms_norm.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';
import { headNorm64, residualRmsNorm64, rmsNorm64 } from './float64/layers.js';

export function normCases(): ConformanceCase[] {
  return [
    rmsNormCase(1, 1, 1),
    rmsNormCase(37, 67, 1e-5),
    rmsNormCase(130, 1024, 1e-1),
    rmsNormCase(3, 4104, 1e-5),
    // As short as a head, with more of them than are worked on at once.
    ...[8, 24, 64, 96, 128, 256].map((C) => rmsNormCase(C === 64 ? 20_011 : 261, C, 1e-5)),
    headsBesideCase(67, 3, 64),
    residualCase(1, 3, 1),
    residualCase(67, 130, 0.22),
    residualRmsNormCase(1, 1, 1),
    residualRmsNormCase(37, 67, 0.22),
    residualRmsNormCase(700, 96, 0.22),
    residualRmsNormCase(5, 1536, 1),
    residualRmsNormCase(3, 5001, 0.5),
    residualRmsNormCase(19, 40, 0.22, 'sum'),
    residualRmsNormCase(19, 40, 1, 'normalised'),
    residualStreamCase(5, 1, 1),
    residualStreamCase(9, 96, 1),
    residualStreamCase(37, 67, 0.22),
    residualStreamCase(3, 4104, 1),
    headNormCase(1, 1, 16),
    headNormCase(65, 7, 50),
    headNormCase(20, 24, 64),
  ];
}

function rmsNormCase(N: number, C: number, epsilon: number): ConformanceCase {
  return {
    name: `rmsNorm [${N}, ${C}], epsilon ${epsilon}`,
    prepare(random, input) {
      const [x, dy] = [input(random.normals(N * C, 3)), input(random.normals(N * C))];
      const weight = input(random.normals(C));
      const wanted = rmsNorm64(x, weight, epsilon, dy);
      return {
        expected: [output('y', wanted.y, C), gradient('dx', wanted.dx, C), gradient('dWeight', wanted.dWeight, C)],
        run: () =>
          withGradients(
            (a, b) => [rmsNorm(a as Tensor2D, b as Tensor1D, epsilon)],
            [tensor2d(x, [N, C]), tensor1d(weight)],
            [tensor2d(dy, [N, C])],
          ),
      };
    },
  };
}

/** Of heads that a matmul has made beside others: weights that pass x on unchanged, as queries and, in part, as keys. */
function headsBesideCase(N: number, H: number, D: number): ConformanceCase {
  const C = H * D;
  return {
    name: `rmsNorm of [${N}, ${H}, ${D}] beside others`,
    prepare(random, input) {
      const [x, dy, dk] = [input(random.normals(N * C, 3)), input(random.normals(N * C)), input(random.normals(N * D))];
      const weight = input(random.normals(D));
      const wanted = rmsNorm64(x, weight, 1e-5, dy);
      for (let row = 0; row < N; row++) for (let c = 0; c < D; c++) wanted.dx[row * C + c]! += dk[row * D + c]!;
      const passing = (rows: number) => eye(rows, C) as Tensor2D;
      const k = Float64Array.from({ length: N * D }, (_, i) => x[Math.floor(i / D) * C + (i % D)]!);
      return {
        expected: [
          output('y', wanted.y, D),
          output('k', k, D),
          gradient('dx', wanted.dx, C),
          gradient('dWeight', wanted.dWeight, D),
        ],
        run: () =>
          withGradients(
            (a, b) => {
              const [q, k] = linears(a as Tensor2D, [passing(C), passing(D)]);
              return [rmsNorm(reshape(q!, [N * H, D]), b as Tensor1D, 1e-5), k!];
            },
            [tensor2d(x, [N, C]), tensor1d(weight)],
            [tensor2d(dy, [N * H, D]), tensor2d(dk, [N, D])],
          ),
      };
    },
  };
}

function residualCase(N: number, C: number, multiplier: number): ConformanceCase {
  return {
    name: `residual [${N}, ${C}], multiplier ${multiplier}`,
    prepare(random, input) {
      const [x, branch, dy] = [0, 1, 2].map(() => input(random.normals(N * C))) as [
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      return {
        expected: [
          output(
            'y',
            Float64Array.from(x, (value, i) => value + multiplier * branch[i]!),
            C,
          ),
          gradient('dx', Float64Array.from(dy), C),
          gradient(
            'dBranch',
            Float64Array.from(dy, (value) => multiplier * value),
            C,
          ),
        ],
        run: () =>
          withGradients(
            (a, b) => [residual(a as Tensor2D, b as Tensor2D, multiplier)],
            [tensor2d(x, [N, C]), tensor2d(branch, [N, C])],
            [tensor2d(dy, [N, C])],
          ),
      };
    },
  };
}

/** @param alone the only output that anything depends on; the other's gradient is missing */
function residualRmsNormCase(N: number, C: number, multiplier: number, alone?: 'sum' | 'normalised'): ConformanceCase {
  return {
    name: `residualRmsNorm [${N}, ${C}], multiplier ${multiplier}${alone ? `, ${alone} alone` : ''}`,
    prepare(random, input) {
      const epsilon = 1e-3;
      const draw = (count: number, used = true) => (used ? input(random.normals(count)) : new Float32Array(count));
      const [x, branch, weight] = [draw(N * C), draw(N * C), draw(C)];
      const [dSum, dy] = [draw(N * C, alone !== 'normalised'), draw(N * C, alone !== 'sum')];
      const wanted = residualRmsNorm64(x, branch, weight, { epsilon, multiplier }, { dSum, dy });
      return {
        expected: [
          output('sum', wanted.sum, C),
          output('normalised', wanted.y, C),
          gradient('dx', wanted.dx, C),
          gradient('dBranch', wanted.dBranch, C),
          gradient('dWeight', wanted.dWeight, C),
        ],
        run: () =>
          withGradients(
            (a, b, c) => {
              const both = residualRmsNorm(a as Tensor2D, b as Tensor2D, c as Tensor1D, { epsilon, multiplier });
              return [both.sum, both.normalised];
            },
            [tensor2d(x, [N, C]), tensor2d(branch, [N, C]), tensor1d(weight)],
            [
              alone === 'normalised' ? undefined : tensor2d(dSum, [N, C]),
              alone === 'sum' ? undefined : tensor2d(dy, [N, C]),
            ],
          ),
      };
    },
  };
}

/**
 * A stream from the embedding on to which so little is added each time that bfloat16 would lose it, and its gradient likewise:
 * only sums with more bits come near.
 */
function residualStreamCase(N: number, C: number, multiplier: number): ConformanceCase {
  const depth = 48;
  return {
    name: `a residual stream [${N}, ${C}] in fp24, multiplier ${multiplier}`,
    prepare(random, input) {
      const [V, epsilon, residualType] = [4, 1e-3, 'fp24'] as const;
      const little = () => random.normals(N * C).map((value) => (0.001 * (1 + value)) / multiplier);
      const tokens = Int32Array.from({ length: N }, (_, i) => (3 * i) % V);
      const table = input(random.normals(V * C).map((value) => value + Math.sign(value)));
      const weight = input(random.normals(C).map((value) => 1 + 0.1 * value));
      const branches = Array.from({ length: depth }, () => input(little()));
      const dSum = input(random.normals(N * C).map((value) => value + Math.sign(value)));
      const dys = Array.from({ length: depth + 1 }, () => input(little()));
      const sums = [Float64Array.from({ length: N * C }, (_, i) => table[tokens[Math.floor(i / C)]! * C + (i % C)]!)];
      for (const branch of branches) sums.push(sums.at(-1)!.map((value, i) => value + multiplier * branch[i]!));
      const normalised = [rmsNorm64(sums[0]!, weight, epsilon, dys[0]!).y];
      let dx = Float64Array.from(dSum);
      for (let i = depth; i > 0; i--) {
        const all = { dSum: dx, dy: dys[i]! };
        const one = residualRmsNorm64(sums[i - 1]!, branches[i - 1]!, weight, { epsilon, multiplier }, all);
        normalised.splice(1, 0, one.y);
        dx = one.dx;
      }
      const first = rmsNorm64(sums[0]!, weight, epsilon, dys[0]!).dx;
      const dTable = new Float64Array(V * C);
      for (const [i, value] of dx.entries()) dTable[tokens[Math.floor(i / C)]! * C + (i % C)]! += value + first[i]!;
      return {
        expected: [
          output('sum', sums.at(-1)!, C),
          ...normalised.map((y, i) => output(`normalised ${i}`, y, C)),
          gradient('dTable', dTable, C),
        ],
        run: () =>
          withGradients(
            (a) => {
              const gain = tensor1d(weight);
              let x = embedding(tensor1d(tokens, 'int32'), a as Tensor2D, { residualType });
              const ys = [rmsNorm(x, gain, epsilon, { residualType })];
              for (const branch of branches) {
                const options = { epsilon, multiplier, residualType, consumed: true };
                const both = residualRmsNorm(x, tensor2d(branch, [N, C]), gain, options);
                x = both.sum;
                ys.push(both.normalised);
              }
              return [x, ...ys];
            },
            [tensor2d(table, [V, C])],
            [dSum, ...dys].map((dy) => tensor2d(dy, [N, C])),
          ),
      };
    },
  };
}

function headNormCase(N: number, H: number, D: number): ConformanceCase {
  return {
    name: `headNorm [${N}, ${H}, ${D}]`,
    prepare(random, input) {
      const [x, dy] = [input(random.normals(N * H * D).map((value) => value + 1)), input(random.normals(N * H * D))];
      const [weight, bias] = [input(random.normals(H * D)), input(random.normals(H * D))];
      const wanted = headNorm64(x, weight, bias, D, 1e-5, dy);
      return {
        expected: [
          output('y', wanted.y, D),
          gradient('dx', wanted.dx, D),
          gradient('dWeight', wanted.dWeight, D),
          gradient('dBias', wanted.dBias, D),
        ],
        run: () =>
          withGradients(
            (a, b, c) => [headNorm(a as Tensor3D, b as Tensor2D, c as Tensor2D)],
            [tensor3d(x, [N, H, D]), tensor2d(weight, [H, D]), tensor2d(bias, [H, D])],
            [tensor3d(dy, [N, H, D])],
          ),
      };
    },
  };
}
