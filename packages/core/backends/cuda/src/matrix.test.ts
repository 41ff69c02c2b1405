// A layer's matmuls on a device of host memory (host_device.fixture.ts): padded and merged ones give the numbers of plain ones.
import { seededRandom } from '@stickbreaking/base';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { hostMatrices, type Rows, times, turned } from './host_matrices.fixture.js';
import { matmulKernels } from './ops/matmul.js';
import { transformerKernels } from './ops/transformer.js';

const random = seededRandom(3);
/** Numbers that bfloat16 holds, so that sums in the tests are exact. */
const draw = (rows: number, columns: number): Rows =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, () => random.integer(9) - 4));
const plus = (a: Rows, b: Rows): Rows => a.map((row, i) => row.map((x, j) => x + b[i]![j]!));

/** Within bfloat16's rounding. */
const near = (actual: Rows, wanted: Rows) => {
  const distance = Math.hypot(...actual.flat().map((value, i) => value - wanted.flat()[i]!));
  expect(distance / Math.hypot(...wanted.flat())).toBeLessThan(0.01);
};

function setUp() {
  const { device, backend, put } = hostMatrices();
  const read = ({ dataId, shape }: TensorInfo): Rows => {
    const values = backend.readSync(dataId) as Float32Array;
    return Array.from({ length: shape[0]! }, (_, i) => [...values.subarray(i * shape[1]!, (i + 1) * shape[1]!)]);
  };
  return { device, backend, put, read };
}

describe.each([
  // tokens, inputs, outputs of each weight, matmuls forward, of the input's gradient, of the weights'
  { N: 69, C: 24, outs: [32, 16, 16], forward: 1, back: 1, grads: 1 },
  { N: 69, C: 20, outs: [33, 17], forward: 1, back: 1, grads: 1 },
  { N: 69, C: 24, outs: [32, 3], forward: 2, back: 2, grads: 2 },
  // Few rows have a kernel of their own forward, where their length is a multiple of eight.
  { N: 5, C: 24, outs: [32, 16, 16], forward: 0, back: 1, grads: 1 },
  { N: 5, C: 24, outs: [32, 3], forward: 0, back: 2, grads: 2 },
  { N: 5, C: 20, outs: [33, 17], forward: 1, back: 1, grads: 1 },
  { N: 5, C: 7, outs: [9], forward: 1, back: 1, grads: 1 },
])('$N tokens, $C inputs to $outs', ({ N, C, outs, forward, back, grads }) => {
  it('forward, back, over two batches', () => {
    const { device, backend, put, read } = setUp();
    const x = draw(N, C);
    const weights = outs.map((out) => draw(out, C));
    const tensors = weights.map(put);
    const input = put(x);
    const ys = matmulKernels.Linears([input, ...tensors], {}, backend);
    expect(device.products).toHaveLength(forward);
    for (const [i, y] of ys.entries()) expect(read(y), `y ${i}`).toEqual(times(x, turned(weights[i]!)));

    // The results stand for their own gradients: they lie as a backward's would.
    const dys = ys.map(read);
    const [dx] = matmulKernels.LinearsGrad(
      ys.flatMap((y, i) => [y, tensors[i]!]),
      {},
      backend,
    );
    expect(device.products).toHaveLength(forward + back);
    const wanted = dys.map((dy, i) => times(dy, weights[i]!)).reduce(plus);
    near(read(dx!), wanted);

    const numbered = (name: string, list: TensorInfo[]) =>
      Object.fromEntries(list.map((one, i) => [`${name}${i}`, one]));
    const first = matmulKernels.WeightGrads({ x: input, ...numbered('dy', ys) } as never, {}, backend);
    expect(device.products).toHaveLength(forward + back + grads);
    for (const [i, one] of first.entries()) expect(read(one)).toEqual(times(turned(dys[i]!), x));
    const second = matmulKernels.WeightGrads(
      { x: input, ...numbered('dy', ys), ...numbered('sum', first) } as never,
      {},
      backend,
    );
    expect(device.products).toHaveLength(forward + back + 2 * grads);
    second.forEach((one, i) => {
      const once = times(turned(dys[i]!), x);
      expect(read(one)).toEqual(plus(once, once));
      expect(backend.stored(one).address).toBe(backend.stored(first[i]!).address);
    });

    for (const one of [input, dx!, ...tensors, ...ys, ...first, ...second]) backend.disposeData(one.dataId);
    expect(device.blocks).toBe(0);
  });
});

describe('a feed-forward layer of 19 units', () => {
  const N = 6;
  const [C, F] = [32, 19];
  const s = (g: number) => 1 / (1 + Math.exp(-g));
  it('keeps its padding at zero, and nothing reads what is not written', () => {
    const { device, backend, put, read } = setUp();
    const x = draw(N, C);
    const [gate, up, down] = [draw(F, C), draw(F, C), draw(C, F)].map((rows) =>
      rows.map((row) => row.map((v) => v / 8)),
    );
    const [tx, tGate, tUp, tDown] = [x, gate!, up!, down!].map(put) as [TensorInfo, TensorInfo, TensorInfo, TensorInfo];
    const [g, u] = matmulKernels.Linears([tx, tGate, tUp], {}, backend) as [TensorInfo, TensorInfo];
    const [y] = transformerKernels.SwiGLU({ gate: g, up: u }, {}, backend);
    const [z] = matmulKernels.Linears([y, tDown], {}, backend);
    const [vg, vu] = [gate!, up!].map((weight) => times(x, turned(weight)));
    const gated = vg!.map((row, i) => row.map((value, j) => value * s(value) * vu![i]![j]!));
    near(read(z!), times(gated, turned(down!)));
    expect(device.products.every(({ n, k }) => n % 8 === 0 && k % 8 === 0)).toBe(true);

    const dz = draw(N, C);
    const [dy] = matmulKernels.LinearsGrad([put(dz), tDown], {}, backend);
    const [dGate, dUp] = transformerKernels.SwiGLUGrad({ gate: g, up: u, dy }, {}, backend);
    const before = device.products.length;
    const [dx] = matmulKernels.LinearsGrad([dGate, tGate, dUp, tUp], {}, backend);
    const [ofGate, ofUp] = matmulKernels.WeightGrads({ x: tx, dy0: dGate, dy1: dUp }, {}, backend);
    expect(device.products.length).toBe(before + 2);
    const vdy = times(dz, down!);
    const slope = (value: number) => s(value) + value * s(value) * (1 - s(value));
    const vdGate = vdy.map((row, i) => row.map((d, j) => d * vu![i]![j]! * slope(vg![i]![j]!)));
    const vdUp = vdy.map((row, i) => row.map((d, j) => d * vg![i]![j]! * s(vg![i]![j]!)));
    near(read(dx), plus(times(vdGate, gate!), times(vdUp, up!)));
    near(read(ofGate!), times(turned(vdGate), x));
    near(read(ofUp!), times(turned(vdUp), x));
    // The gradient of a padded weight lies as the weight does: AdamW works both as they lie.
    const [ofDown] = matmulKernels.WeightGrads({ x: y, dy0: put(dz) }, {}, backend);
    near(read(ofDown!), times(turned(dz), gated));
    expect(backend.stored(ofDown!).rows).toEqual(backend.stored(tDown).rows);
    expect(backend.stored(ofGate!).rows).toEqual(backend.stored(tGate).rows);
  });

  it('is straightened for kernels that know nothing of it, and reads the same', () => {
    const { backend, put, read } = setUp();
    const values = draw(17, 19);
    const tensor = put(values);
    expect(backend.stored(tensor).rows).toEqual({ columns: 19, width: 24, stride: 24, count: 24 });
    expect(read(tensor)).toEqual(values);
    expect(backend.stored(tensor).rows).toBeDefined();
    backend.bf16(tensor);
    expect(backend.stored(tensor).rows).toBeUndefined();
    expect(read(tensor)).toEqual(values);
  });
});
