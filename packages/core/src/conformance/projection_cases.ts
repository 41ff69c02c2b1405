/**
 * The conformance suite's cases of projections with what reads them: attention, and a gated feed-forward layer. Backends make
 * the matmuls of one input as one, and hand strided parts of its result on; over two batches gradients are added in place.
 */
import {
  mul,
  reshape,
  type Scalar,
  sum,
  type Tensor2D,
  type Tensor3D,
  tensor2d,
  variable,
} from '@tensorflow/tfjs-core';
import { softmaxAttention } from '../attention/softmax.js';
import { stickBreakingAttention } from '../attention/stick_breaking.js';
import { linear, linears } from '../ops/linear.js';
import { swiGlu } from '../ops/swiglu.js';
import { valueAndGradients } from '../value_and_gradients.js';
import { type ConformanceCase, gradient, output } from './case.js';
import { linear64, swiGlu64 } from './float64/layers.js';
import type { PackedLayout, Values } from './float64/packed.js';
import { softmax64 } from './float64/softmax.js';
import { stickBreaking64 } from './float64/stick_breaking.js';
import { boundaries, packs } from './packs.js';

export function projectionCases(): ConformanceCase[] {
  return [
    attentionCase('stick-breaking', 64, [2, 2]),
    attentionCase('stick-breaking', 32, [4, 2]),
    attentionCase('rope', 64, [2, 2]),
    attentionCase('rope', 32, [4, 2]),
    attentionCase('rope', 128, [1, 1]),
    attentionCase('rope', 48, [2, 1]),
    feedForwardCase(67, 64, 128),
    feedForwardCase(67, 64, 90),
    feedForwardCase(30, 50, 33),
  ];
}

/** The output of `f`, and twice its gradients: of two batches that are the same. */
function outputAndTwoBatches(f: (...inputs: Tensor2D[]) => Tensor2D, inputs: Tensor2D[], dy: Tensor2D) {
  const variables = inputs.map((one) => variable(one));
  const loss = () => sum(mul(f(...(variables as unknown as Tensor2D[])), dy)) as Scalar;
  const once = valueAndGradients(loss, variables);
  const twice = valueAndGradients(loss, variables, once.gradients);
  const result = [f(...(variables as unknown as Tensor2D[])), ...twice.gradients.map((one) => one!)];
  for (const one of [...variables, once.value, twice.value]) one.dispose();
  return result;
}

const twice = (values: Float64Array) => values.map((value) => 2 * value);

function attentionCase(
  kind: 'stick-breaking' | 'rope',
  headDim: number,
  [heads, kvHeads]: [number, number],
): ConformanceCase {
  const C = 40;
  return {
    name: `projected ${kind}, D ${headDim}, heads ${heads}/${kvHeads}, two batches`,
    prepare(random, input) {
      const cuSeqlens = boundaries(packs.short.queries);
      const N = cuSeqlens[cuSeqlens.length - 1]!;
      const layout: PackedLayout = {
        ...{ heads, kvHeads, headDim, cuSeqlens, cuSeqlensK: cuSeqlens, scale: 1 / Math.sqrt(headDim) },
      };
      const rows = [heads, kvHeads, kvHeads].map((count) => count * headDim);
      const x = input(random.normals(N * C));
      const weights = rows.map((out) => input(random.normals(out * C, 1 / Math.sqrt(C))));
      const dy = input(random.normals(N * rows[0]!));
      const [q, k, v] = weights.map((weight) => linear64(x, weight, C, new Float64Array(N * (weight.length / C))).y);
      const dRemainder = new Float64Array(N * heads);
      const given = { q: q!, k: k!, v: v!, dOutput: dy };
      const wanted =
        kind === 'rope'
          ? softmax64(given, layout, { kind: 'rope', theta: 10_000 })
          : stickBreaking64({ ...given, dRemainder }, layout, false);
      const back = [wanted.dq, wanted.dk, wanted.dv].map((gradient, i) => linear64(x, weights[i]!, C, gradient));
      return {
        expected: [
          output('output', wanted.output, headDim),
          gradient('dx', twice(total(back.map(({ dx }) => dx))), C),
          ...['q', 'k', 'v'].map((name, i) => gradient(`the weight of ${name}`, twice(back[i]!.dWeight), C)),
        ],
        run: () =>
          outputAndTwoBatches(
            (x, ...weights) => {
              const parts = linears(x, weights as [Tensor2D, Tensor2D, Tensor2D]);
              const [q, k, v] = parts.map((part) => reshape(part, [N, part.shape[1]! / headDim, headDim])) as [
                Tensor3D,
                Tensor3D,
                Tensor3D,
              ];
              const mixed =
                kind === 'rope'
                  ? softmaxAttention(q, k, v, { cuSeqlens, position: { kind: 'rope' }, consumed: true })
                  : stickBreakingAttention(q, k, v, { cuSeqlens }).output;
              return reshape(mixed, [N, heads * headDim]) as Tensor2D;
            },
            [tensor2d(x, [N, C]), ...weights.map((weight, i) => tensor2d(weight, [rows[i]!, C]))],
            tensor2d(dy, [N, rows[0]!]),
          ),
      };
    },
  };
}

function feedForwardCase(N: number, C: number, F: number): ConformanceCase {
  return {
    name: `feed-forward [${N}, ${C}] of ${F} units, two batches`,
    prepare(random, input) {
      const x = input(random.normals(N * C));
      const [gate, up] = [0, 1].map(() => input(random.normals(F * C, 1 / Math.sqrt(C))));
      const down = input(random.normals(C * F, 1 / Math.sqrt(F)));
      const dy = input(random.normals(N * C));
      const none = new Float64Array(N * F);
      const [g, u] = [gate!, up!].map((weight) => linear64(x, weight, C, none).y) as [Values, Values];
      const gated = swiGlu64(g, u, none).y;
      const last = linear64(gated, down, F, dy);
      const back = swiGlu64(g, u, last.dx);
      const [ofGate, ofUp] = [linear64(x, gate!, C, back.dGate), linear64(x, up!, C, back.dUp)];
      return {
        expected: [
          output('y', last.y, C),
          gradient('dx', twice(total([ofGate.dx, ofUp.dx])), C),
          gradient('the weight of gate', twice(ofGate.dWeight), C),
          gradient('the weight of up', twice(ofUp.dWeight), C),
          gradient('the weight of down', twice(last.dWeight), F),
        ],
        run: () =>
          outputAndTwoBatches(
            (x, gate, up, down) => linear(swiGlu(...linears(x, [gate!, up!])), down!),
            [tensor2d(x, [N, C]), tensor2d(gate!, [F, C]), tensor2d(up!, [F, C]), tensor2d(down, [C, F])],
            tensor2d(dy, [N, C]),
          ),
      };
    },
  };
}

function total(parts: Float64Array[]): Float64Array {
  return parts[0]!.map((value, i) => parts.slice(1).reduce((sum, part) => sum + part[i]!, value));
}
