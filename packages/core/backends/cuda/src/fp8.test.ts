// Matmuls of eight bits on a device of host memory (host_device.fixture.ts): which are made so, over what, and when weights are made anew.

import { seededRandom } from '@stickbreaking/base';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { castInto } from './casts.js';
import { attachEight } from './fp8.js';
import type { HostDevice } from './host_device.fixture.js';
import { hostMatrices, type Rows, times, turned } from './host_matrices.fixture.js';
import { matmulKernels } from './ops/matmul.js';

const fp8 = { precision: 'fp8' } as const;
const random = seededRandom(5);
/** Numbers that a row in eight bits holds: its largest is 4, and all are powers of two. */
const draw = (rows: number, columns: number): Rows =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, () => [0, 1, -1, 2, -4, 4][random.integer(6)]!));

function setUp() {
  const { device, backend, put } = hostMatrices();
  const near = ({ dataId }: TensorInfo, wanted: Rows) => {
    const values = backend.readSync(dataId) as Float32Array;
    const flat = wanted.flat();
    expect(values.length).toBe(flat.length);
    const distance = Math.hypot(...flat.map((value, i) => value - values[i]!));
    expect(distance / Math.hypot(...flat)).toBeLessThan(0.004);
  };
  return { device, backend, put, near };
}

const inEight = (device: HostDevice) => device.products.map(({ scales }) => scales !== undefined);

describe.each([
  { N: 66, C: 32, outs: [32, 16], forward: [true], back: [true] },
  { N: 66, C: 144, outs: [48], forward: [true], back: [true] },
  // Rows that are no whole vectors are padded in memory; the gradient's would be 24 long, which cuBLASLt does not take.
  { N: 70, C: 20, outs: [32, 16], forward: [true], back: [false] },
  { N: 66, C: 32, outs: [8], forward: [false], back: [true] },
])('$N tokens, $C inputs to $outs', ({ N, C, outs, forward, back }) => {
  it('gives what the operands say, and its memory back', () => {
    const { device, backend, put, near } = setUp();
    const x = draw(N, C);
    const weights = outs.map((out) => draw(out, C));
    const [input, ...tensors] = [x, ...weights].map(put) as [TensorInfo, ...TensorInfo[]];
    const ys = matmulKernels.Linears([input, ...tensors], fp8, backend);
    expect(inEight(device)).toEqual(forward);
    ys.forEach((y, i) => {
      near(y, times(x, turned(weights[i]!)));
    });

    // Gradients that lie as these results do, with numbers that a row in eight bits holds.
    const chosen = Array.from({ length: N }, () => random.integer(C));
    const ones = put(chosen.map((c) => Array.from({ length: C }, (_, i) => (i === c ? 1 : 0))));
    const dys = matmulKernels.Linears([ones, ...tensors], {}, backend);
    device.products.length = 0;
    const given = dys.flatMap((dy, i) => [dy, tensors[i]!]);
    const [dx] = matmulKernels.LinearsGrad(given, fp8, backend);
    expect(inEight(device)).toEqual(back);
    const below = weights.flat();
    near(dx, times(turned(below.map((row) => chosen.map((c) => row[c]!))), below));

    for (const one of [input, ones, dx, ...tensors, ...ys, ...dys]) backend.disposeData(one.dataId);
    expect(device.blocks).toBe(0);
  });
});

it('makes weights anew after an update alone', () => {
  const { backend, put, near } = setUp();
  const [x, before, after] = [draw(4, 32), draw(16, 32), draw(16, 32)];
  const [input, weight, other] = [x, before, after].map(put) as [TensorInfo, TensorInfo, TensorInfo];
  const run = () => matmulKernels.Linears([input, weight], fp8, backend)[0]!;
  near(run(), times(x, turned(before)));
  const entry = backend.stored(weight);
  const kept = entry.eightWeight;
  run();
  expect(entry.eightWeight).toBe(kept);
  // As AdamW does it: in place, its copy with it.
  castInto(backend, entry.copy!, 'bf16', backend.stored(other).address, 'f32', 16 * 32);
  entry.updates = (entry.updates ?? 0) + 1;
  near(run(), times(x, turned(after)));
  expect(entry.eightWeight!.address).toBe(kept!.address);
});

it('reads what an op has written beside a tensor once, and gives it back with the tensor otherwise', () => {
  const { device, backend, put, near } = setUp();
  const [x, w] = [draw(4, 32), draw(16, 32)];
  const [input, weight] = [put(x), put(w)];
  const eight = attachEight(backend, input, 4, 32);
  // Four rows of ones in eight bits, scaled by 2, whatever the tensor holds.
  const bytes = new Uint8Array(4 * eight.width).fill(0);
  for (let r = 0; r < 4; r++) bytes.fill(0x38, r * eight.width, r * eight.width + 32);
  backend.upload(eight.address, bytes);
  backend.upload(eight.scales, new Float32Array(4).fill(2));
  near(
    matmulKernels.Linears([input, weight], fp8, backend)[0]!,
    times(
      x.map((row) => row.map(() => 2)),
      turned(w),
    ),
  );
  near(matmulKernels.Linears([input, weight], fp8, backend)[0]!, times(x, turned(w)));
  const blocks = device.blocks;
  const plain = put(x);
  attachEight(backend, plain, 4, 32);
  backend.disposeData(plain.dataId);
  expect(device.blocks).toBe(blocks);
});
