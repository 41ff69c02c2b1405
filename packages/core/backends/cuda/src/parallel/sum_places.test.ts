// Gradients that copy engines send: the same sums as by multiprocessors, in places that layers take in turns.
import { registerBackend, setBackend, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { afterEach, expect, it, vi } from 'vitest';
import { HostDevice } from '../host_device.fixture.js';
import { Gpus } from './gpus.js';
import { GradientBuckets } from './gradient_buckets.js';
import { bucketsOf, type Matrix, slicesOf } from './layout.js';
import type { Communicator } from './nccl.js';
import type { SumType } from './ordered_sums.js';

afterEach(() => {
  vi.unstubAllEnvs();
});

const SIDE = 16;
/** In the order in which a model declares them. */
const NAMES = [
  'model.embed_tokens.weight',
  ...Array.from({ length: 7 }, (_, i) => [
    `model.layers.${i}.self_attn.q_proj.weight`,
    `model.layers.${i}.self_attn.o_proj.weight`,
    `model.layers.${i}.mlp.down_proj.weight`,
  ]).flat(),
];
let made = 0;

/** Sums of two micro-batches on one GPU that sends to itself, and how it was asked to send. */
function summed(memory: boolean, type: SumType = 'f32') {
  const device = new HostDevice();
  const name = `host ${made++}`;
  registerBackend(name, () => device.backend);
  setBackend(name);
  const byEngines: boolean[] = [];
  const communicator = {
    ...{ rank: 0, size: 1, check: () => {} },
    memory: (bytes: number) => (memory ? device.allocate(bytes) : undefined),
    allToAll: (from: number, to: number, bytes: number, _: number, engines: boolean) => {
      byEngines.push(engines);
      device.memory(to, bytes).set(device.memory(from, bytes));
    },
    allGather: () => {},
  } as unknown as Communicator;
  const buckets = bucketsOf(
    NAMES.map((one) => ({ name: one, elements: SIDE * SIDE })),
    1,
    1,
  );
  expect(buckets).toHaveLength(8);
  const matrices = new Map<string, Matrix>();
  buckets.forEach(({ slots }, bucket) => {
    for (const { name: one, offset, elements } of slots)
      matrices.set(one, { shape: [SIDE, SIDE], rows: undefined, elements, bucket, offset });
  });
  const sharing = { buckets, slices: slicesOf(buckets, 0, 1), matrices };
  const all = new GradientBuckets(new Gpus(device.backend, communicator), sharing, new Map(), 0, {
    apart: true,
    ordered: true,
    type,
  });
  const results: Float32Array[] = [];
  for (let step = 0; step < 2; step++) {
    all.beginStep();
    let gradients: Map<string, Tensor> | undefined;
    for (let batch = 0; batch < 2; batch++) {
      gradients = all.beginBatch(gradients, batch === 1);
      // The last layer's come first.
      for (const one of NAMES.toReversed()) {
        gradients.get(one)?.dispose();
        const values = Float32Array.from({ length: SIDE * SIDE }, (_, i) =>
          Math.sin(i + one.length + 7 * batch + step),
        );
        gradients.set(one, all.settle(one, tensor(values, [SIDE, SIDE])));
      }
      all.endBatch();
    }
    for (const one of all.finish(gradients!).values()) results.push(one.dataSync().slice() as Float32Array);
  }
  return { results, byEngines: new Set(byEngines) };
}

it('adds the same by copy engines, whose places are never in use twice', () => {
  const plain = summed(true);
  expect(plain.byEngines).toEqual(new Set([false]));
  vi.stubEnv('STICKBREAKING_SUM_ENGINES', '1');
  const sent = summed(true);
  expect(sent.byEngines).toEqual(new Set([true]));
  expect(sent.results).toEqual(plain.results);
  expect(sent.results).toHaveLength(2 * NAMES.length);
  // Where NCCL has no such memory, as before.
  const without = summed(false);
  expect(without.byEngines).toEqual(new Set([false]));
  expect(without.results).toEqual(plain.results);
});

it('leaves bfloat16 to NCCL', () => {
  vi.stubEnv('STICKBREAKING_SUM_ENGINES', '1');
  expect(summed(true, 'bf16').byEngines).toEqual(new Set([false]));
});
