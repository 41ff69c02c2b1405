/** The conformance suite's cases of all ops except attention. */
import {
  add,
  clone,
  scalar,
  type Tensor,
  type Tensor2D,
  tensor,
  tensor1d,
  tensor2d,
  type Variable,
  variable,
} from '@tensorflow/tfjs-core';
import { adamW } from '../ops/adamw.js';
import { embedding } from '../ops/embedding.js';
import { globalNorm } from '../ops/global_norm.js';
import { linearCrossEntropy, linearTargetScores } from '../ops/linear_cross_entropy.js';
import { runKernel } from '../run_kernel.js';
import { roundToBfloat16 } from './bfloat16.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';
import { adamW64, embedding64, globalNorm64, linearCrossEntropy64 } from './float64/layers.js';
import { layerCases } from './layer_cases.js';
import { mixtureCases } from './mixture_cases.js';
import { normCases } from './norm_cases.js';
import { projectionCases } from './projection_cases.js';
import { tfjsCases } from './tfjs_cases.js';

export function opCases(): ConformanceCase[] {
  return [
    ...normCases(),
    ...layerCases(),
    ...mixtureCases(),
    ...projectionCases(),
    ...tfjsCases(),
    embeddingCase(40, 13, 70),
    embeddingCase(1, 1000, 3),
    tiedCase(50, 30, 24),
    tiedCase(3, 400, 40, 'held elsewhere'),
    crossEntropyCase(1, 3, 2, 1),
    crossEntropyCase(53, 20, 131, 0.7),
    crossEntropyCase(130, 64, 1000, 1),
    crossEntropyCase(20, 4, 70_000, 1),
    crossEntropyCase(31, 32, 100, 1, 40),
    targetScoresCase(97, 24, 131, 0.7),
    targetScoresCase(20, 4, 70_000, 1),
    globalNormCase(),
    adamWCase(),
    narrowMomentsCase(),
    additionCase(),
  ];
}

/** Sums of gradients over micro-batches. */
function additionCase(): ConformanceCase {
  const sizes = [20_201, 64, 3];
  return {
    name: 'addition of tensors of 20201, 64 and 3 values',
    prepare(random, input) {
      const pairs = sizes.map((size) => [input(random.normals(size)), input(random.normals(size))] as const);
      return {
        expected: pairs.map(([a, b], i) => {
          const sum = Float64Array.from(a, (value, at) => value + b[at]!);
          return output(`sum ${i}`, sum, sizes[i]!);
        }),
        run: () => pairs.map(([a, b]) => add(tensor1d(a), tensor1d(b))),
      };
    },
  };
}

/** Gradients of one weight of embedding and head, added to a sum so far. */
function tiedCase(N: number, V: number, C: number, held?: 'held elsewhere'): ConformanceCase {
  return {
    name: `gradient [${V}, ${C}] of an embedding that is the head's weight, ${N} tokens${held ? ', its sum held elsewhere' : ''}`,
    prepare(random, input) {
      const [tokens, targets] = [0, 1].map(() => Int32Array.from({ length: N }, () => random.integer(V)));
      const [hidden, weight, dy] = [N, V, N].map((rows) => input(random.normals(rows * C)));
      const [dLoss, sum] = [random.normals(N), input(random.normals(V * C))];
      const ofRows = embedding64(tokens!, weight!, C, dy!).dWeight;
      const ofHead = linearCrossEntropy64(
        hidden!,
        weight!,
        targets!,
        { width: C, logitScale: 1, ignoreIndex: -1 },
        dLoss,
      );
      const total = ofHead.dWeight.map((value, i) => value + ofRows[i]! + sum[i]!);
      return {
        expected: [
          gradient('dHidden', ofHead.dHidden, C),
          gradient('sum', total, C),
          ...(held ? [gradient('elsewhere', Float64Array.from(sum), C)] : []),
        ],
        run: () => {
          const attrs = { logitScale: 1, ignoreIndex: -1 };
          const head = {
            hidden: tensor2d(hidden!, [N, C]),
            weight: tensor2d(weight!, [V, C]),
            targets: tensor1d(targets!, 'int32'),
          };
          const before = add(tensor2d(sum, [V, C]), 0);
          const elsewhere = held ? [clone(before)] : [];
          const [, logSumExp, kept] = runKernel('LinearCrossEntropy', head, { ...attrs, gradientFollows: true });
          const backward = {
            ...head,
            logSumExp,
            dLoss: tensor1d(dLoss),
            sum: before,
            ...(kept ? { saved: kept } : {}),
          };
          const [dHidden, dWeight] = runKernel('LinearCrossEntropyGrad', backward, attrs);
          const rows = { tokens: tensor1d(tokens!, 'int32'), dy: tensor2d(dy!, [N, C]), sum: dWeight };
          return [dHidden, ...runKernel('EmbeddingGrad', rows, { vocabSize: V }), ...elsewhere];
        },
      };
    },
  };
}

function embeddingCase(N: number, V: number, C: number): ConformanceCase {
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
function crossEntropyCase(N: number, C: number, V: number, logitScale: number, deviation = 1): ConformanceCase {
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

/** Every other target is the likeliest of its row. */
function targetScoresCase(N: number, C: number, V: number, logitScale: number): ConformanceCase {
  return {
    name: `linearTargetScores [${N}, ${C}] to ${V}`,
    prepare(random, input) {
      const ignoreIndex = -1;
      const [hidden, weight] = [input(random.normals(N * C)), input(random.normals(V * C))];
      const likeliest = Int32Array.from({ length: N }, (_, n) => likeliestOf(hidden, weight, C, n));
      const targets = likeliest.map((best, n) => (n % 7 === 4 ? ignoreIndex : n % 2 === 0 ? best : (best + 1) % V));
      const options = { width: C, logitScale, ignoreIndex };
      const { loss } = linearCrossEntropy64(hidden, weight, targets, options, new Float64Array(N));
      const isLikeliest = Float64Array.from(targets, (target, n) => (target === likeliest[n] ? 1 : 0));
      return {
        expected: [output('losses', loss, 1), output('likeliest', isLikeliest, 1)],
        run: () => {
          const ids = tensor1d(targets, 'int32');
          const found = linearTargetScores(tensor2d(hidden, [N, C]), tensor2d(weight, [V, C]), ids, {
            logitScale,
            ignoreIndex,
          });
          return [found.losses, found.likeliest];
        },
        exact: ([, found]) => {
          const wrong = [...isLikeliest].findIndex((value, n) => found![n] !== value);
          return wrong < 0 ? [] : [`row ${wrong} has ${found![wrong]}, not ${isLikeliest[wrong]}`];
        },
      };
    },
  };
}

/** The row of `weight` whose product with row n of `hidden` is the largest. */
function likeliestOf(hidden: ArrayLike<number>, weight: ArrayLike<number>, width: number, n: number): number {
  let [best, highest] = [-1, Number.NEGATIVE_INFINITY];
  for (let v = 0; v < weight.length / width; v++) {
    let logit = 0;
    for (let c = 0; c < width; c++) logit += hidden[n * width + c]! * weight[v * width + c]!;
    if (logit > highest) [best, highest] = [v, logit];
  }
  return best;
}

function globalNormCase(): ConformanceCase {
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
function adamWCase(): ConformanceCase {
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
            const all = {
              ...constants,
              parameters,
              gradients: tensors,
              firstMoments,
              secondMoments,
              weightDecays,
              step: s + 1,
            };
            // Part of the factor on the device, and one that is not a number: nothing happens.
            if (s > 0) adamW({ ...all, scale: scalar(Number.NaN) });
            adamW(s > 0 ? { ...all, gradientScale: constants.gradientScale * 4, scale: scalar(0.25) } : all);
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

/**
 * Moments in bfloat16: rounded to one of the two numbers around what float64 gives, and right in the mean. The parameters follow
 * from moments before they are rounded, so one step's are exact.
 */
function narrowMomentsCase(): ConformanceCase {
  const [rows, columns] = [67, 64];
  const size = rows * columns;
  const constants = { learningRate: 0.02, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, gradientScale: 0.5 };
  return {
    name: 'adamW, moments in bfloat16',
    prepare(random, input) {
      const [start, gradientValues] = [input(random.normals(size)), input(random.normals(size, 0.1))];
      const [first, second] = [input(random.normals(size, 0.1)), input(random.normals(size, 0.1).map((x) => x * x))];
      const state = {
        ...{ parameter: Float64Array.from(start), m: Float64Array.from(first), v: Float64Array.from(second) },
      };
      for (const moment of [first, second]) roundToBfloat16(moment);
      state.m.set(first);
      state.v.set(second);
      adamW64(state, gradientValues, { ...constants, weightDecay: 0.1, step: 7 });
      const wanted = [state.m, state.v];
      return {
        expected: [
          output('parameter', state.parameter, size),
          // Rounding is looked at below.
          ...wanted.map((values, i) => output(`moment ${i}`, values, size, 1e6)),
        ],
        run: () => {
          const [parameter, m, v] = [start, first, second].map((values) =>
            variable(tensor2d(values, [rows, columns]), false),
          ) as [Variable, Variable, Variable];
          const moments = { firstMoments: [m], secondMoments: [v], momentType: 'bfloat16' as const };
          const gradients = [tensor2d(gradientValues, [rows, columns])];
          adamW({ ...constants, parameters: [parameter], gradients, ...moments, weightDecays: [0.1], step: 7 });
          const results = [parameter, m, v].map((one): Tensor => one.mul(scalar(1)));
          for (const one of [parameter, m, v]) one.dispose();
          return results;
        },
        exact: ([, ...moments]) =>
          moments.flatMap((values, which) => {
            const errors = Array.from(values, (value, i) => {
              const exact = wanted[which]![i]!;
              return (value - exact) / 2 ** (Math.floor(Math.log2(Math.abs(exact))) - 7);
            });
            const far = errors.findIndex((error) => Math.abs(error) > 1.01);
            const mean = errors.reduce((a, b) => a + b, 0) / size;
            // Uniform between two neighbours, an error has a deviation of less than half of their distance.
            const biased = Math.abs(mean) > (5 * 0.5) / Math.sqrt(size);
            const nearest = errors.filter((error) => Math.abs(error) <= 0.5).length;
            return [
              ...(values.every((value, i) => value === roundToBfloat16(values.slice(i, i + 1))[0])
                ? []
                : [`moment ${which} is not in bfloat16`]),
              ...(far < 0 ? [] : [`moment ${which} is off by ${errors[far]} steps at ${far}`]),
              ...(biased ? [`moment ${which} is off by ${mean} steps in the mean`] : []),
              ...(nearest < size * 0.95 ? [] : [`moment ${which} is rounded to the nearest, not at random`]),
            ];
          }),
      };
    },
  };
}
