/** The conformance suite's cases of what happens to gradients: they are added, their norm is taken, and AdamW goes by them. */
import { add, scalar, type Tensor, tensor, tensor1d, tensor2d, type Variable, variable } from '@tensorflow/tfjs-core';
import { adamW } from '../ops/adamw.js';
import { globalNorm } from '../ops/global_norm.js';
import { roundToBfloat16 } from './bfloat16.js';
import { type ConformanceCase, output } from './case.js';
import { adamW64, globalNorm64 } from './float64/layers.js';

export function optimizerCases(): ConformanceCase[] {
  return [globalNormCase(), adamWCase(), narrowMomentsCase(), additionCase()];
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
