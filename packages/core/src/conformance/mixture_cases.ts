/** The conformance suite's cases of a mixture of experts. */
import type { Random } from '@stickbreaking/base';
import { add, keep, type Tensor, tensor2d, tensor3d } from '@tensorflow/tfjs-core';
import { mixtureOfExperts } from '../ops/mixture_of_experts.js';
import { runKernel } from '../run_kernel.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';
import { chosen64, logits64, type Mixture64, type MixtureSizes, mixture64 } from './float64/mixture.js';

/** Rows N, width C, units F, experts E, k of them active. */
type Sizes = [N: number, C: number, F: number, E: number, k: number];

/** How the routing is drawn; 'ties': of whole numbers, so that many logits are equal to the bit. */
type Routed = 'plain' | 'ties' | 'one expert takes all' | 'extreme';

export function mixtureCases(): ConformanceCase[] {
  return [
    mixtureCase([1, 1, 1, 1, 1]),
    mixtureCase([1, 12, 7, 4, 2]),
    mixtureCase([67, 33, 19, 5, 2]),
    mixtureCase([130, 40, 24, 8, 3]),
    mixtureCase([71, 16, 9, 1, 1]),
    mixtureCase([70, 17, 11, 6, 6]),
    mixtureCase([90, 24, 8, 16, 1]),
    mixtureCase([66, 8, 12, 7, 3], 'ties'),
    mixtureCase([75, 20, 16, 6, 1], 'one expert takes all'),
    mixtureCase([75, 20, 16, 6, 2], 'one expert takes all'),
    mixtureCase([69, 20, 16, 6, 2], 'extreme'),
    // Rows of whole 16 bytes, as the GPU's kernels want them: more tokens than a tile, experts with few or none.
    mixtureCase([40, 64, 24, 8, 2]),
    mixtureCase([140, 136, 40, 8, 3]),
    mixtureCase([66, 8, 8, 24, 1]),
    mixtureCase([70, 72, 136, 3, 3], 'ties'),
    mixtureCase([150, 64, 40, 6, 2], 'one expert takes all'),
    // More experts than a warp has threads, and more chosen ones.
    mixtureCase([70, 16, 8, 72, 40]),
    mixtureCase([67, 16, 8, 40, 36], 'ties'),
    mixtureCase([66, 16, 8, 300, 3]),
    // Shares of the balance loss that are not these tokens'.
    mixtureCase([67, 33, 19, 5, 2], 'plain', [7, 0, 300, 1, 40]),
    mixtureCase([130, 40, 24, 8, 3], 'plain', [9, 2, 0, 4, 1, 70_000, 30, 5]),
    sumsCase([67, 21, 10, 5, 2]),
    sumsCase([140, 80, 48, 6, 2]),
  ];
}

function draw(random: Random, input: (values: Float32Array) => Float32Array, sizes: Sizes, routed: Routed): Mixture64 {
  const [N, C, F, E, k] = sizes;
  const whole = (count: number, most: number) =>
    Float32Array.from({ length: count }, () => random.integer(2 * most + 1) - most);
  const router = routed === 'ties' ? whole(E * C, 1) : input(random.normals(E * C, routed === 'extreme' ? 40 : 1));
  const x = routed === 'ties' ? whole(N * C, 1) : input(random.normals(N * C, Math.sqrt(1 / C)));
  if (routed === 'one expert takes all') {
    // Of the last expert: its logit is larger than all others by this much for every token.
    for (let t = 0; t < N; t++) x[t * C] = 1;
    for (let e = 0; e < E; e++) router[e * C] = e === E - 1 ? 16 : 0;
  }
  if (routed !== 'ties') spread(random, input, x, router, C, k);
  return {
    x,
    router,
    input: input(random.normals(E * 2 * F * C, Math.sqrt(1 / C))),
    output: input(random.normals(E * C * F, Math.sqrt(1 / F))),
  };
}

/** Draws tokens anew of whose largest logits two are so close that rounding could swap them. */
function spread(
  random: Random,
  input: (values: Float32Array) => Float32Array,
  x: Float32Array,
  router: Float32Array,
  C: number,
  k: number,
): void {
  const E = router.length / C;
  for (let at = 0; at < x.length; at += C) {
    const isClose = () => {
      const logits = logits64(x.subarray(at, at + C), router, C);
      const order = chosen64(logits, Math.min(E, k + 1)).map((e) => logits[e]!);
      const least = 1e-4 * Math.max(1, Math.abs(order[0]!));
      return order.some((logit, i) => i > 0 && order[i - 1]! - logit < least);
    };
    while (isClose()) x.set(input(random.normals(C - 1, Math.sqrt(1 / C))), at + 1);
  }
}

const settings = (sizes: Sizes): MixtureSizes => {
  const [, width, units, experts, active] = sizes;
  return { width, units, experts, active, balanceWeight: 3, zWeight: 0.7 };
};

const tensorsOf = ({ x, router, input, output }: Mixture64, [N, C, F, E]: Sizes): Tensor[] => [
  tensor2d(x as Float32Array, [N, C]),
  tensor2d(router as Float32Array, [E, C]),
  tensor3d(input as Float32Array, [E, 2 * F, C]),
  tensor3d(output as Float32Array, [E, C, F]),
];

function mixtureCase(sizes: Sizes, routed: Routed = 'plain', balanceCounts?: readonly number[]): ConformanceCase {
  const [N, C, F, E, k] = sizes;
  return {
    name: `mixtureOfExperts [${N}, ${C}], ${k} of ${E} experts of ${F}${routed === 'plain' ? '' : `, ${routed}`}${balanceCounts ? ', shares given' : ''}`,
    ...(routed === 'extreme' ? { extreme: true } : {}),
    prepare(random, input) {
      const drawn = draw(random, input, sizes, routed);
      const dy = input(random.normals(N * C));
      const given = balanceCounts ? { balanceCounts } : {};
      const wanted = mixture64(drawn, { ...settings(sizes), ...given }, dy);
      return {
        expected: [
          output('y', wanted.y, C),
          output('losses', wanted.routing.subarray(0, 2), 2),
          output('counts', wanted.routing.subarray(2), E),
          output('choices', wanted.choices, k),
          gradient('dx', wanted.dx, C, wanted.dxTermsNorm),
          gradient('dRouter', wanted.dRouter, C),
          gradient('dInput', wanted.dInput, C),
          gradient('dOutput', wanted.dOutput, F),
        ],
        run: () => {
          const observed: Tensor[] = [];
          const [y, ...gradients] = withGradients(
            (x, router, weights, outputs) => {
              const { active, balanceWeight, zWeight } = settings(sizes);
              const named = { router: router!, input: weights!, output: outputs! };
              const result = mixtureOfExperts(x!, named, { active, balanceWeight, zWeight, ...given });
              const { routing, choices } = result;
              observed.push(
                ...[routing.slice(0, 2), routing.slice(2), choices.cast('float32')].map((one) => keep(one)),
              );
              return [result.y];
            },
            tensorsOf(drawn, sizes),
            [tensor2d(dy, [N, C])],
          );
          return [y!, ...observed, ...gradients];
        },
      };
    },
  };
}

/** Gradients of weights added to sums. */
function sumsCase(sizes: Sizes): ConformanceCase {
  const [N, C, F, E, k] = sizes;
  return {
    name: `mixtureOfExperts [${N}, ${C}], ${k} of ${E} experts of ${F}, gradients added to sums`,
    prepare(random, input) {
      const drawn = draw(random, input, sizes, 'plain');
      const dy = input(random.normals(N * C));
      const sums = draw(random, input, sizes, 'plain');
      const wanted = mixture64(drawn, settings(sizes), dy);
      const plus = (a: Float64Array, b: ArrayLike<number>) => a.map((value, i) => value + b[i]!);
      return {
        expected: [
          gradient('dx', wanted.dx, C, wanted.dxTermsNorm),
          gradient('dRouter', plus(wanted.dRouter, sums.router), C),
          gradient('dInput', plus(wanted.dInput, sums.input), C),
          gradient('dOutput', plus(wanted.dOutput, sums.output), F),
        ],
        run: () => {
          const { active, balanceWeight, zWeight } = settings(sizes);
          const attrs = { active, balanceWeight, zWeight };
          const [x, router, weights, outputs] = tensorsOf(drawn, sizes) as [Tensor, Tensor, Tensor, Tensor];
          const inputs = { x, router, input: weights, output: outputs };
          const [, , choices, logits, saved] = runKernel('MixtureOfExperts', inputs, attrs);
          // A result, unlike values from outside, may change in place.
          const [, sumRouter, sumInput, sumOutput] = tensorsOf(sums, sizes).map((one) => add(one, 0));
          const given = { sumRouter: sumRouter!, sumInput: sumInput!, sumOutput: sumOutput! };
          const known = { ...inputs, choices, logits, saved, dy: tensor2d(dy, [N, C]) };
          return [...runKernel('MixtureOfExpertsGrad', { ...known, ...given }, attrs)];
        },
      };
    },
  };
}
