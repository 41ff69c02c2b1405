/** The cases of every op beside attention that every backend is held to. */
import {
  scalar,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor,
  tensor1d,
  tensor2d,
  tensor3d,
  type Variable,
  variable,
} from '@tensorflow/tfjs-core';
import { rotaryEmbedding } from '../attention/rotary.js';
import { adamW } from '../ops/adamw.js';
import { embedding } from '../ops/embedding.js';
import { globalNorm } from '../ops/global_norm.js';
import { headNorm } from '../ops/head_norm.js';
import { linear, linears } from '../ops/linear.js';
import { linearCrossEntropy } from '../ops/linear_cross_entropy.js';
import { remainderBias } from '../ops/remainder_bias.js';
import { residual } from '../ops/residual.js';
import { residualRmsNorm } from '../ops/residual_rms_norm.js';
import { rmsNorm } from '../ops/rms_norm.js';
import { swiGlu } from '../ops/swiglu.js';
import { gradient, type HeldCase, output, withGradients } from './case.js';
import {
  adamW64,
  embedding64,
  globalNorm64,
  headNorm64,
  linear64,
  linearCrossEntropy64,
  remainderBias64,
  residualRmsNorm64,
  rmsNorm64,
  swiGlu64,
} from './float64/layers.js';
import { rotate64 } from './float64/positions.js';

export function opCases(): HeldCase[] {
  return [
    rmsNormCase(1, 1, 1),
    rmsNormCase(37, 67, 1e-5),
    rmsNormCase(130, 1024, 1e-1),
    rmsNormCase(3, 4104, 1e-5),
    swiGluCase(1, 1),
    swiGluCase(33, 171),
    swiGluCase(11, 77, 60),
    residualCase(1, 3, 1),
    residualCase(67, 130, 0.22),
    residualRmsNormCase(1, 1, 1),
    residualRmsNormCase(37, 67, 0.22),
    residualRmsNormCase(700, 96, 0.22),
    residualRmsNormCase(5, 1536, 1),
    residualRmsNormCase(3, 5001, 0.5),
    residualRmsNormCase(19, 40, 0.22, 'sum'),
    residualRmsNormCase(19, 40, 1, 'normalised'),
    linearCase(1, 1, 1),
    linearCase(65, 50, 33),
    linearCase(3, 300, 129),
    linearsCase(1, 1, [1]),
    linearsCase(67, 50, [33, 1, 40]),
    linearsCase(130, 96, [64, 64, 96, 32]),
    linearsCase(19, 40, [24, 8, 16], [0, 2]),
    headNormCase(1, 1, 16),
    headNormCase(65, 7, 50),
    headNormCase(20, 24, 64),
    remainderBiasCase(1, 1, 16),
    remainderBiasCase(65, 7, 50),
    rotaryCase(1, 1, 16),
    rotaryCase(7, 1, 50),
    rotaryCase(4, 2, 128),
    rotaryCase(12, 6, 64, true),
    embeddingCase(40, 13, 70),
    embeddingCase(1, 1000, 3),
    crossEntropyCase(1, 3, 2, 1),
    crossEntropyCase(53, 20, 131, 0.7),
    crossEntropyCase(130, 64, 1000, 1),
    crossEntropyCase(64, 4, 70_000, 1),
    crossEntropyCase(31, 32, 100, 1, 40),
    globalNormCase(),
    adamWCase(),
  ];
}

function rmsNormCase(N: number, C: number, epsilon: number): HeldCase {
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

function swiGluCase(N: number, F: number, deviation = 1): HeldCase {
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

function residualCase(N: number, C: number, multiplier: number): HeldCase {
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
function residualRmsNormCase(N: number, C: number, multiplier: number, alone?: 'sum' | 'normalised'): HeldCase {
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

function linearCase(N: number, C: number, out: number): HeldCase {
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

/** @param used the outputs that anything depends on; default all */
function linearsCase(N: number, C: number, outs: number[], used = [...outs.keys()]): HeldCase {
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

function headNormCase(N: number, H: number, D: number): HeldCase {
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

function remainderBiasCase(N: number, H: number, D: number): HeldCase {
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

/** @param fewer queries than keys: each document's last ones */
function rotaryCase(H: number, K: number, D: number, fewer = false): HeldCase {
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

function embeddingCase(N: number, V: number, C: number): HeldCase {
  return {
    name: `embedding of ${N} tokens, [${V}, ${C}]`,
    prepare(random, input) {
      const tokens = Int32Array.from({ length: N }, () => random.integer(V));
      const [weight, dy] = [input(random.normals(V * C)), input(random.normals(N * C))];
      const wanted = embedding64(tokens, weight, C, dy);
      return {
        expected: [output('y', wanted.y, C), gradient('dWeight', wanted.dWeight, C)],
        run: () =>
          withGradients(
            (a) => [embedding(tensor1d(tokens, 'int32'), a as Tensor2D)],
            [tensor2d(weight, [V, C])],
            [tensor2d(dy, [N, C])],
          ),
      };
    },
  };
}

/** @param deviation of the logits */
function crossEntropyCase(N: number, C: number, V: number, logitScale: number, deviation = 1): HeldCase {
  return {
    name: `linearCrossEntropy [${N}, ${C}] to ${V}, logits of deviation ${deviation}`,
    prepare(random, input) {
      const ignoreIndex = -100;
      const hidden = input(random.normals(N * C, deviation / Math.sqrt(C)));
      const [weight, dLoss] = [input(random.normals(V * C)), input(random.normals(N))];
      const targets = Int32Array.from({ length: N }, (_, n) => (n % 7 === 4 ? ignoreIndex : random.integer(V)));
      const wanted = linearCrossEntropy64(hidden, weight, targets, { width: C, logitScale, ignoreIndex }, dLoss);
      return {
        expected: [
          output('loss', wanted.loss, 1),
          gradient('dHidden', wanted.dHidden, C),
          gradient('dWeight', wanted.dWeight, C),
        ],
        run: () =>
          withGradients(
            (a, b) => [
              linearCrossEntropy(a as Tensor2D, b as Tensor2D, tensor1d(targets, 'int32'), { logitScale, ignoreIndex }),
            ],
            [tensor2d(hidden, [N, C]), tensor2d(weight, [V, C])],
            [tensor1d(dLoss)],
          ),
        exact: ([loss]) =>
          [...targets].flatMap((target, n) =>
            target === ignoreIndex && loss![n] !== 0 ? [`the loss of ignored row ${n} is not 0`] : [],
          ),
      };
    },
  };
}

function globalNormCase(): HeldCase {
  return {
    name: 'globalNorm of tensors of 20201, 3, 1 and 0 values',
    prepare(random, input) {
      const xs = [20_201, 3, 1, 0].map((count) => input(random.normals(count, 5)));
      return {
        expected: [output('norm', Float64Array.of(globalNorm64(xs)), 1)],
        run: () => [globalNorm(xs.map((x) => tensor1d(x)))],
      };
    },
  };
}

/** Three steps over parameters of several shapes, with and without decay. */
function adamWCase(): HeldCase {
  const shapes = [[9, 7], [3], [1, 1], [130, 65]];
  const sizes = shapes.map((shape) => shape.reduce((a, b) => a * b));
  const weightDecays = [0.1, 0, 0.3, 0.1];
  const constants = { learningRate: 0.02, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, gradientScale: 0.5 };
  return {
    name: 'adamW, three steps over four parameters',
    prepare(random, input) {
      const start = sizes.map((size) => input(random.normals(size)));
      const steps = [1, 2, 3].map(() => sizes.map((size) => input(random.normals(size, 0.1))));
      const zeros = () => sizes.map((size) => new Float32Array(size));
      const states = start.map((parameter, i) => {
        const state = {
          parameter: Float64Array.from(parameter),
          m: new Float64Array(sizes[i]!),
          v: new Float64Array(sizes[i]!),
        };
        steps.forEach((gradients, s) => {
          adamW64(state, gradients[i]!, { ...constants, weightDecay: weightDecays[i]!, step: s + 1 });
        });
        return state;
      });
      return {
        expected: states.flatMap(({ parameter, m, v }, i) => [
          output(`parameter ${i}`, parameter, sizes[i]!),
          output(`first moment ${i}`, m, sizes[i]!),
          output(`second moment ${i}`, v, sizes[i]!),
        ]),
        run: () => {
          const variables = (all: Float32Array[]): Variable[] =>
            all.map((values, i) => variable(tensor(values, shapes[i]), false));
          const [parameters, firstMoments, secondMoments] = [variables(start), variables(zeros()), variables(zeros())];
          steps.forEach((gradients, s) => {
            const tensors = gradients.map((values, i) => tensor(values, shapes[i]));
            const moments = { firstMoments, secondMoments };
            adamW({ ...constants, parameters, gradients: tensors, ...moments, weightDecays, step: s + 1 });
          });
          const results = parameters.flatMap((parameter, i): Tensor[] =>
            [parameter, firstMoments[i]!, secondMoments[i]!].map((one) => one.mul(scalar(1))),
          );
          for (const one of [...parameters, ...firstMoments, ...secondMoments]) one.dispose();
          return results;
        },
      };
    },
  };
}
