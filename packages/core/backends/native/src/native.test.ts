/** The kernels of tfjs that the native backend replaces, against tfjs's 'cpu'; our own are in the conformance suite. */

import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { linear, selectBackend } from '@stickbreaking/core';
import { runKernel } from '@stickbreaking/core/backend';
import {
  add,
  addN,
  div,
  fill,
  findBackend,
  matMul,
  mul,
  setBackend,
  slice,
  sub,
  sum,
  type Tensor,
  tensor,
  tidy,
  tile,
  type Variable,
  variable,
} from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { NativeBackend } from './backend.js';
import { native, setBlas, setThreads } from './index.js';

const seed = chooseSeed();
const { uniform: random } = seededRandom(seed, 'native kernels');

interface Values {
  shape: number[];
  data: Float32Array | Int32Array;
}
function floats(...shape: number[]): Values {
  const size = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Float32Array.from({ length: size }, () => random() * 2 - 1) };
}
function ids(count: number, below: number): Values {
  return { shape: [count], data: Int32Array.from({ length: count }, () => Math.floor(random() * below)) };
}
function make({ shape, data }: Values): Tensor {
  return tensor(data.slice(), shape, data instanceof Int32Array ? 'int32' : 'float32');
}

function valuesOf(x: Tensor): Values {
  return { shape: x.shape, data: x.dataSync() as Float32Array };
}

async function valuesOn(backend: string, run: () => Tensor[]): Promise<{ shape: number[]; data: number[] }[]> {
  if (backend === 'cpu') await selectBackend('cpu');
  else await setBackend(backend);
  return tidy(() => run().map((one) => ({ shape: one.shape, data: Array.from(one.dataSync()) })));
}

async function agree(run: () => Tensor[], reference = run): Promise<void> {
  const expected = await valuesOn('cpu', reference);
  const actual = await valuesOn('native', run);
  expect(actual.map((one) => one.shape)).toEqual(expected.map((one) => one.shape));
  actual.forEach((one, o) => {
    const off = one.data.findIndex((value, i) => {
      const wanted = expected[o]!.data[i]!;
      return !(Math.abs(value - wanted) <= 1e-4 * Math.max(1, Math.abs(wanted)));
    });
    if (off >= 0)
      throw new Error(`seed ${seed}: output ${o} at ${off}: ${one.data[off]}, expected ${expected[o]!.data[off]}`);
  });
}

const probed = await native.probe();
const skipped = probed.available ? '' : ` (skipped: ${probed.why})`;

describe.skipIf(!probed.available)(`native kernels${skipped}`, () => {
  beforeAll(() => native.activate());

  for (const [m, k, n] of [
    [1, 1, 1],
    [1, 70, 33],
    [13, 257, 31],
    [97, 300, 65],
    [25, 513, 259],
  ] as const) {
    for (const [transposeA, transposeB] of [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ] as const) {
      it(`multiplies [${m},${k}]·[${k},${n}], transposed ${transposeA} and ${transposeB}`, async () => {
        const a = transposeA ? floats(k, m) : floats(m, k);
        const b = transposeB ? floats(n, k) : floats(k, n);
        await agree(() => [matMul(make(a), make(b), transposeA, transposeB)]);
      });
    }
  }

  it('broadcasts the batch', async () => {
    const [a, b, c] = [floats(3, 1, 5, 7), floats(4, 7, 6), floats(7, 9)];
    // tfjs's own kernel pairs the matrices wrongly where both sides broadcast; it gets them repeated.
    await agree(
      () => [matMul(make(a), make(b)), matMul(make(a), make(c))],
      () => [
        matMul(tile(make(a), [1, 4, 1, 1]), tile(make(b).reshape([1, 4, 7, 6]), [3, 1, 1, 1])),
        matMul(make(a), tile(make(c).reshape([1, 1, 7, 9]), [3, 1, 1, 1])),
      ],
    );
  });

  it.each(['own', undefined])('multiplies to the same bits on one thread and on five (BLAS: %s)', async (blas) => {
    await setBlas(blas);
    try {
      // Wide, tall, and a short product over a long sum, as a weight's gradient is.
      for (const [m, k, n] of [
        [211, 700, 301],
        [1030, 40, 33],
        [40, 2100, 130],
      ] as const) {
        const [a, b] = [floats(m, k), floats(k, n)];
        const run = () => [matMul(make(a), make(b))];
        setThreads(1);
        const one = await valuesOn('native', run);
        setThreads(5);
        expect(await valuesOn('native', run)).toEqual(one);
      }
    } finally {
      setThreads(2);
      await setBlas();
    }
  });

  it.each([
    [130, 70],
    [1100, 9],
    [7, 40],
  ])(
    'gives a row of few the same bits, whatever the rows beside it: of %i numbers by %i weights',
    async (width, outs) => {
      const [x, weight] = [floats(64, width), floats(outs, width)];
      const rows = async (from: number, to: number) =>
        (await valuesOn('native', () => [linear(slice(make(x), [from, 0], [to - from, width]), make(weight))]))[0]!
          .data;
      const alone: number[] = [];
      for (let row = 0; row < 64; row++) alone.push(...(await rows(row, row + 1)));
      const together = matMul(make(x), make(weight), false, true).dataSync();
      for (const [i, value] of alone.entries()) expect(value).toBeCloseTo(together[i]!, 3);
      // Fewer than fill a vector, as many, some more, and all.
      for (const [from, to] of [
        [0, 3],
        [5, 18],
        [2, 18],
        [30, 59],
        [0, 64],
      ] as const) {
        expect(await rows(from, to)).toEqual(alone.slice(from * outs, to * outs));
      }
    },
  );

  it('combines equal, repeated and mixed shapes, and sums over axes, as tfjs does', async () => {
    const [x, y, row, column] = [floats(5, 4, 7), floats(5, 4, 7), floats(7), floats(5, 1, 1)];
    const [middle, one, other] = [floats(4, 1), floats(1), floats(1, 4, 7)];
    await agree(() =>
      [add, sub, mul, div].flatMap((op) =>
        [y, row, column, middle, one, other].flatMap((second) => [
          op(make(x), make(second)),
          op(make(second), make(x)),
          op(make(second), make(column)),
        ]),
      ),
    );
    await agree(() => [
      addN([make(x), make(y), make(x)]),
      add(make(ids(5, 9)), make(ids(5, 9)))
        .cast('float32')
        .mul(0),
      add(make(ids(5, 9)), make(floats(5))).mul(0),
      ...[undefined, 0, 1, 2, [0, 1], [1, 2], [0, 2], []].map((axes) => sum(make(x), axes)),
      sum(make(x), [2], true),
      sum(make(floats(0, 3)), 0),
    ]);
  });

  it('uses the memory of disposed tensors again, but never what somebody may still hold', async () => {
    await setBackend('native');
    const [x, y] = [make(floats(64, 64)), make(floats(64, 64))];
    const sums = () => Array.from({ length: 8 }, () => add(x, y));
    const [read, sliced, reshaped, dropped] = sums() as [Tensor, Tensor, Tensor, Tensor];
    const held = read.dataSync();
    const view = sliced.slice([16, 0], [8, 64]); // tfjs's own kernel, which keeps a view of the same array
    const other = reshaped.reshape([4096]);
    for (const one of [read, sliced, reshaped, dropped]) one.dispose();
    const products = Array.from({ length: 8 }, () => mul(x, y)); // would overwrite what was given back too early
    const expected = await valuesOn('cpu', () => [add(make(valuesOf(x)), make(valuesOf(y)))]);
    const sum = expected[0]!.data;
    expect(Array.from(held)).toEqual(sum);
    expect(Array.from(view.dataSync())).toEqual(sum.slice(16 * 64, 24 * 64));
    expect(Array.from(other.dataSync())).toEqual(sum);
    for (const one of [x, y, view, other, ...products]) one.dispose();
  });

  it('refuses a token outside the vocabulary', async () => {
    await setBackend('native');
    const inputs = { tokens: make({ shape: [1], data: Int32Array.of(13) }), weight: make(floats(13, 2)) };
    expect(() => runKernel('Embedding', inputs, {})).toThrow('Token 13 is outside the vocabulary of 13.');
  });

  it('updates parameters in place, and leaves a tensor that shares the values alone', async () => {
    const start = [floats(9, 7), floats(9, 7), floats(9, 7)];
    start[2]!.data.forEach((value, i) => {
      start[2]!.data[i] = Math.abs(value);
    });
    const grad = floats(9, 7);
    await agree(() => {
      const initial = make(start[0]!);
      const names = ['param0', 'm0', 'v0'];
      const variables = [initial, make(start[1]!), make(start[2]!)].map((one) => variable(one) as Variable);
      const inputs = Object.fromEntries(names.map((name, i) => [name, variables[i]!]));
      const constants = { learningRate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, gradientScale: 0.5 };
      for (const step of [1, 2]) {
        runKernel('AdamW', { ...inputs, grad0: make(grad) }, { ...constants, weightDecays: [0.1], step });
      }
      const results = [...variables.map((one) => one.clone()), initial];
      return results;
    });
  });
});

it('fills arrays that its pool holds, with zeros and with other numbers', async () => {
  await selectBackend('native');
  const backend = findBackend('native') as NativeBackend;
  for (const value of [0, 2.5]) {
    const held = backend.pool.take(5003).fill(7);
    backend.pool.give(held);
    const filled = fill([5003], value);
    expect(backend.valuesOf(filled)).toBe(held);
    expect(held.every((one) => one === value)).toBe(true);
    filled.dispose();
  }
  expect([...fill([3], 2, 'int32').dataSync()]).toEqual([2, 2, 2]);
});
