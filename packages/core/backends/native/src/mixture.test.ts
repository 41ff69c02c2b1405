/** The mixture's own kernels: equal to a dense layer where all experts are chosen, and to the bit whatever the threads. */
import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { linear, linears, mixtureOfExperts, selectBackend, swiGlu } from '@stickbreaking/core';
import {
  concat,
  grads,
  keep,
  matMul,
  mul,
  reshape,
  softmax,
  type Tensor,
  type Tensor2D,
  tensor2d,
  tensor3d,
} from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { native } from './index.js';
import { nativeFunction } from './library.js';

const probed = await native.probe();
const seed = chooseSeed();
const random = seededRandom(seed, 'mixture');
const [N, C, F, E] = [150, 32, 20, 6];
const values = {
  x: random.normals(N * C),
  router: random.normals(E * C, 0.2),
  input: random.normals(E * 2 * F * C, 0.2),
  output: random.normals(E * C * F, 0.2),
  dy: random.normals(N * C),
};

function inputs(rows = N): [Tensor, Tensor, Tensor, Tensor] {
  return [
    tensor2d(values.x.slice(0, rows * C), [rows, C]),
    tensor2d(values.router, [E, C]),
    tensor3d(values.input, [E, 2 * F, C]),
    tensor3d(values.output, [E, C, F]),
  ];
}

const mixture = (active: number) => (x: Tensor, router: Tensor, input: Tensor, output: Tensor) =>
  mixtureOfExperts(x, { router, input, output }, { active }).y;

/** One layer of all experts' units, each expert's weighted by its softmax. */
function dense(x: Tensor, router: Tensor, input: Tensor, output: Tensor): Tensor2D {
  const part = (from: number) => reshape(input.slice([0, from, 0], [E, F, C]), [E * F, C]) as Tensor2D;
  const [gate, up] = linears(x, [part(0), part(F)]);
  const weights = softmax(linear(x, router));
  // Each expert's weight for each of its units.
  const spread = tensor2d(
    Float32Array.from({ length: E * E * F }, (_, i) => +(Math.floor((i % (E * F)) / F) === Math.floor(i / (E * F)))),
    [E, E * F],
  );
  const hidden = mul(swiGlu(gate, up), matMul(weights, spread)) as Tensor2D;
  const down = concat(
    Array.from({ length: E }, (_, e) => reshape(output.slice([e, 0, 0], [1, C, F]), [C, F])),
    1,
  );
  return linear(hidden, down as Tensor2D);
}

const apart = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.hypot(...Array.from(a, (value, i) => value - b[i]!)) / Math.hypot(...Array.from(b));

describe.skipIf(!probed.available)('a mixture of experts on the C++ library', () => {
  beforeAll(() => selectBackend('native'));

  it.each([N, 40])('is a dense layer where every expert is chosen, of %i tokens', (rows) => {
    const all = inputs(rows);
    const [sparse, whole] = [mixture(E), dense].map((layer) => {
      const dy = tensor2d(values.dy.slice(0, rows * C), [rows, C]);
      const gradients = grads((...given) => mul(layer(...(given as typeof all)), dy).sum())(all);
      return [layer(...all), ...gradients].map((one) => one.dataSync());
    });
    for (const [i, one] of sparse!.entries()) expect(apart(one, whole![i]!), `${i}, seed ${seed}`).toBeLessThan(1e-6);
  });

  it('gives the same bits with any number of threads', () => {
    const threads = nativeFunction('void sb_set_threads(int32_t threads)');
    const before = new Int32Array(1);
    nativeFunction('void sb_get_threads(void *threads)')(before);
    const run = () =>
      [
        mixture(2)(...inputs()),
        ...grads((...given) =>
          mixture(2)(...(given as ReturnType<typeof inputs>))
            .square()
            .sum(),
        )(inputs()),
      ].map((one) => one.dataSync());
    try {
      const results = [1, 3, 3].map((count) => {
        threads(count);
        return run();
      });
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
    } finally {
      threads(before[0]!);
    }
  });

  it('gives a token the same bits alone as among up to 64', () => {
    const rows = 64;
    const together = mixture(2)(...inputs(rows)).dataSync();
    const [x, ...weights] = inputs(rows);
    for (const row of [0, 17, 63]) {
      const alone = mixture(2)(x.slice([row, 0], [1, C]), ...weights).dataSync();
      expect(alone).toEqual(together.slice(row * C, (row + 1) * C));
    }
  });

  it('gives what the reference gives, of any size', async () => {
    const size = (min: number, max: number) => fc.integer({ min, max });
    const sizes = fc.tuple(size(0, 90), size(1, 20), size(1, 12), size(1, 9), fc.nat(), fc.nat());
    await fc.assert(
      fc.asyncProperty(sizes, async ([rows, width, units, experts, nth, drawn]) => {
        const active = 1 + (nth % experts);
        const own = seededRandom(seed, `of any size ${drawn}`);
        // Whole numbers, whose products have no rounding: both choose the same experts, and many logits are equal.
        const whole = (count: number) => Float32Array.from({ length: count }, () => own.integer(3) - 1);
        const [x, router, dy] = [whole(rows * width), whole(experts * width), own.normals(rows * width)];
        const [input, output] = [2, 1].map((parts) => own.normals(experts * parts * units * width, 0.3));
        const run = async (backend: string) => {
          await selectBackend(backend);
          const all = [
            tensor2d(x, [rows, width]),
            tensor2d(router, [experts, width]),
            tensor3d(input!, [experts, 2 * units, width]),
            tensor3d(output!, [experts, width, units]),
          ];
          let routing: Tensor | undefined;
          const gradients = grads((x, router, input, output) => {
            const result = mixtureOfExperts(
              x!,
              { router: router!, input: input!, output: output! },
              { active, balanceWeight: 2, zWeight: 0.5 },
            );
            routing = keep(result.routing);
            return mul(result.y, tensor2d(dy, [rows, width])).sum();
          })(all);
          return [routing!, ...gradients].map((one) => one.dataSync());
        };
        const [wanted, found] = [await run('cpu'), await run('native')];
        for (const [i, one] of found.entries()) {
          const off = Math.hypot(...Array.from(one, (value, at) => value - wanted[i]![at]!));
          expect(off, `${i}, seed ${seed}`).toBeLessThan(1e-5 * (1 + Math.hypot(...Array.from(wanted[i]!))));
        }
      }),
      { numRuns: 20 },
    );
    await selectBackend('native');
  });
});
