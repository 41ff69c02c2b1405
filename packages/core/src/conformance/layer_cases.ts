/** The conformance suite's cases of a layer's matmuls, its gate, rotary embedding and the remainder's bias. */
import { add, clone, type Tensor, type Tensor2D, type Tensor3D, tensor2d, tensor3d } from '@tensorflow/tfjs-core';
import { forgettingBias } from '../attention/forgetting.js';
import { rotaryEmbedding } from '../attention/rotary.js';
import type { Kernels } from '../kernels.js';
import { linear, linears } from '../ops/linear.js';
import { remainderBias } from '../ops/remainder_bias.js';
import { swiGlu } from '../ops/swiglu.js';
import { runKernel } from '../run_kernel.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';
import { linear64, remainderBias64, swiGlu64 } from './float64/layers.js';
import { rotate64 } from './float64/positions.js';
import { boundaries } from './packs.js';

export function layerCases(): ConformanceCase[] {
  return [
    swiGluCase(1, 1),
    swiGluCase(33, 171),
    swiGluCase(11, 77, 60),
    linearCase(1, 1, 1),
    linearCase(65, 50, 33),
    linearCase(3, 300, 129),
    weightGradsCase(1, [1], 1),
    weightGradsCase(65, [33], 50),
    weightGradsCase(300, [96, 96, 32], 64),
    weightGradsCase(300, [64, 64], 64, 'first only'),
    weightGradsCase(65, [24, 24], 40, 'held elsewhere'),
    linearsCase(1, 1, [1]),
    linearsCase(67, 50, [33, 1, 40]),
    linearsCase(130, 96, [64, 64, 96, 32]),
    linearsCase(19, 40, [24, 8, 16], [0, 2]),
    remainderBiasCase(1, 1, 16),
    remainderBiasCase(65, 7, 50),
    forgettingBiasCase([1], 1),
    forgettingBiasCase([5, 0, 256, 257, 31], 7),
    forgettingBiasCase([4100], 2),
    rotaryCase(1, 1, 16),
    rotaryCase(7, 1, 50),
    rotaryCase(4, 2, 128),
    rotaryCase(12, 6, 64, true),
  ];
}

function swiGluCase(N: number, F: number, deviation = 1): ConformanceCase {
  return {
    name: `swiGlu [${N}, ${F}], gates of deviation ${deviation}`,
    prepare(random, input) {
      const gate = input(random.normals(N * F, deviation));
      const [up, dy] = [input(random.normals(N * F)), input(random.normals(N * F))];
      const wanted = swiGlu64(gate, up, dy);
      return {
        expected: [output('y', wanted.y, F), gradient('dGate', wanted.dGate, F), gradient('dUp', wanted.dUp, F)],
        run: () =>
          withGradients(
            (a, b) => [swiGlu(a as Tensor2D, b as Tensor2D)],
            [tensor2d(gate, [N, F]), tensor2d(up, [N, F])],
            [tensor2d(dy, [N, F])],
          ),
      };
    },
  };
}

/** Minus the running sums of log gates in documents of these lengths, of K heads. */
function forgettingBiasCase(lengths: readonly number[], K: number): ConformanceCase {
  return {
    name: `forgettingBias of documents of ${lengths.join(', ')}, ${K} heads`,
    prepare(random, input) {
      const cuSeqlens = boundaries(lengths);
      const M = cuSeqlens.at(-1)!;
      const gates = input(random.normals(M * K, 2).map((gate) => -Math.log1p(Math.exp(-gate))));
      const dy = input(random.normals(M * K).map((value) => 1 + value));
      const sums = (values: Float32Array, backwards: boolean) => {
        const result = new Float64Array(M * K);
        lengths.forEach((length, s) => {
          for (let k = 0; k < K; k++) {
            let sum = 0;
            for (let i = 0; i < length; i++) {
              const at = (cuSeqlens[s]! + (backwards ? length - 1 - i : i)) * K + k;
              sum += values[at]!;
              result[at] = -sum;
            }
          }
        });
        return result;
      };
      return {
        expected: [output('bias', sums(gates, false), K), gradient('dLogForget', sums(dy, true), K)],
        run: () =>
          withGradients((a) => [forgettingBias(a!, cuSeqlens)], [tensor2d(gates, [M, K])], [tensor2d(dy, [M, K])]),
      };
    },
  };
}

function linearCase(N: number, C: number, out: number): ConformanceCase {
  return {
    name: `linear [${N}, ${C}] to ${out}`,
    prepare(random, input) {
      const [x, weight] = [input(random.normals(N * C)), input(random.normals(out * C))];
      const dy = input(random.normals(N * out));
      const wanted = linear64(x, weight, C, dy);
      return {
        expected: [output('y', wanted.y, out), gradient('dx', wanted.dx, C), gradient('dWeight', wanted.dWeight, C)],
        run: () =>
          withGradients(
            (a, b) => [linear(a as Tensor2D, b as Tensor2D)],
            [tensor2d(x, [N, C]), tensor2d(weight, [out, C])],
            [tensor2d(dy, [N, out])],
          ),
      };
    },
  };
}

/** @param sums whether another tensor holds the first one too, which must keep its values; whether there is but one */
function weightGradsCase(
  N: number,
  outs: number[],
  C: number,
  sums?: 'held elsewhere' | 'first only',
): ConformanceCase {
  return {
    name: `gradients [${outs}, ${C}] of weights, ${N} tokens, added to sums${sums ? `, ${sums}` : ''}`,
    prepare(random, input) {
      const x = input(random.normals(N * C));
      const parts = outs.map((F, i) => {
        const [sum, dy] = [input(random.normals(F * C)), input(random.normals(N * F))];
        const given = sums !== 'first only' || i === 0;
        const { dWeight } = linear64(x, new Float32Array(F * C), C, dy);
        return { F, sum, dy, given, total: dWeight.map((value, at) => value + (given ? sum[at]! : 0)) };
      });
      const elsewhere = sums === 'held elsewhere';
      return {
        expected: [
          ...parts.map(({ total }, i) => gradient(`sum ${i}`, total, C)),
          ...(elsewhere ? [gradient('elsewhere', Float64Array.from(parts[0]!.sum), C)] : []),
        ],
        run: () => {
          const inputs: Kernels['WeightGrads']['inputs'] = { x: tensor2d(x, [N, C]) };
          const held: Tensor[] = [];
          parts.forEach(({ F, sum, dy, given }, i) => {
            inputs[`dy${i}`] = tensor2d(dy, [N, F]);
            // A result, unlike values from outside, may change in place.
            if (given) inputs[`sum${i}`] = add(tensor2d(sum, [F, C]), 0);
            if (elsewhere && i === 0) held.push(clone(inputs.sum0!));
          });
          return [...runKernel('WeightGrads', inputs, {}), ...held];
        },
      };
    },
  };
}

/** @param used the outputs that anything depends on; default all */
function linearsCase(N: number, C: number, outs: number[], used = [...outs.keys()]): ConformanceCase {
  return {
    name: `linears [${N}, ${C}] to ${outs.join(', ')}${used.length < outs.length ? `, of which ${used} are used` : ''}`,
    prepare(random, input) {
      const x = input(random.normals(N * C));
      const parts = outs.map((out, i) => {
        const weight = input(random.normals(out * C));
        const dy = used.includes(i) ? input(random.normals(N * out)) : new Float32Array(N * out);
        return { out, weight, dy, wanted: linear64(x, weight, C, dy) };
      });
      const dx = parts.reduce(
        (sum, { wanted }) => sum.map((value, i) => value + wanted.dx[i]!),
        new Float64Array(N * C),
      );
      return {
        expected: [
          ...parts.map(({ out, wanted }, i) => output(`y ${i}`, wanted.y, out)),
          gradient('dx', dx, C),
          ...parts.map(({ wanted }, i) => gradient(`dWeight ${i}`, wanted.dWeight, C)),
        ],
        run: () =>
          withGradients(
            (a, ...weights) => [...linears(a as Tensor2D, weights as Tensor2D[])],
            [tensor2d(x, [N, C]), ...parts.map(({ weight, out }) => tensor2d(weight, [out, C]))],
            parts.map(({ dy, out }, i) => (used.includes(i) ? tensor2d(dy, [N, out]) : undefined)),
          ),
      };
    },
  };
}

function remainderBiasCase(N: number, H: number, D: number): ConformanceCase {
  return {
    name: `remainderBias [${N}, ${H}, ${D}]`,
    prepare(random, input) {
      const [x, dy] = [input(random.normals(N * H * D)), input(random.normals(N * H * D))];
      const remainder = input(Float32Array.from({ length: N * H }, () => random.uniform()));
      const bias = input(random.normals(H * D));
      const wanted = remainderBias64(x, remainder, bias, D, dy);
      return {
        expected: [
          output('y', wanted.y, D),
          gradient('dOutput', wanted.dOutput, D),
          gradient('dRemainder', wanted.dRemainder, H),
          gradient('dBias', wanted.dBias, D),
        ],
        run: () =>
          withGradients(
            (a, b, c) => [remainderBias(a as Tensor3D, b as Tensor2D, c as Tensor2D)],
            [tensor3d(x, [N, H, D]), tensor2d(remainder, [N, H]), tensor2d(bias, [H, D])],
            [tensor3d(dy, [N, H, D])],
          ),
      };
    },
  };
}

/** @param fewer whether there are fewer queries than keys: each document's last ones */
function rotaryCase(H: number, K: number, D: number, fewer = false): ConformanceCase {
  return {
    name: `rotaryEmbedding, heads ${H}/${K}, D ${D}, a document far into its text${fewer ? ', fewer queries' : ''}`,
    prepare(random, input) {
      const cuSeqlensK = [0, 7, 7, 19, 20];
      const cuSeqlens = fewer ? [0, 1, 1, 6, 7] : cuSeqlensK;
      const firstPositions = [0, 3, 65_000, 1];
      const inverseFrequencies = Float64Array.from({ length: 4 * (D / 2) }, () => random.uniform());
      // A document's rows end where its keys end.
      const angles = (boundaries: number[]) => (row: number) => {
        const s = boundaries.findLastIndex((start) => start <= row);
        const position = firstPositions[s]! + cuSeqlensK[s + 1]! - cuSeqlensK[s]! - (boundaries[s + 1]! - row);
        return { position, frequencies: inverseFrequencies.subarray((s * D) / 2, ((s + 1) * D) / 2) };
      };
      const parts = [
        { heads: H, boundaries: cuSeqlens },
        { heads: K, boundaries: cuSeqlensK },
      ].map(({ heads, boundaries }) => {
        const shape: [number, number, number] = [boundaries.at(-1)!, heads, D];
        const [x, dy] = [0, 1].map(() => input(random.normals(shape[0] * heads * D))) as [Float32Array, Float32Array];
        const turned = (values: Float32Array, direction: 1 | -1) =>
          rotate64(values, heads, D, angles(boundaries), direction);
        return { x: () => tensor3d(x, shape), dy: () => tensor3d(dy, shape), y: turned(x, 1), dx: turned(dy, -1) };
      });
      return {
        expected: [
          ...['q', 'k'].map((name, i) => output(`turned ${name}`, parts[i]!.y, D)),
          ...['dq', 'dk'].map((name, i) => gradient(name, parts[i]!.dx, D)),
        ],
        run: () =>
          withGradients(
            (q, k) => {
              const options = { cuSeqlens, cuSeqlensK, firstPositions, inverseFrequencies };
              const both = rotaryEmbedding(q as Tensor3D, k as Tensor3D, options);
              return [both.q, both.k];
            },
            parts.map(({ x }) => x()),
            parts.map(({ dy }) => dy()),
          ),
      };
    },
  };
}
