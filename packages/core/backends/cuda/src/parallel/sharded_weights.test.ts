// Weights shared by two processes, each on a device of host memory: a collective happens once both have asked for it.

import { registerBackend, setBackend, type Tensor, tensor, type Variable, variable } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { castTo } from '../casts.js';
import { HostDevice } from '../host_device.fixture.js';
import { Gpus } from './gpus.js';
import type { Communicator } from './nccl.js';
import { replayedStep, sizeOf } from './replayed.fixture.js';
import { type Shard, ShardedWeights } from './sharded_weights.js';

type Type = 'f32' | 'bf16' | 'f64';
const BYTES = { f32: 4, bf16: 2, f64: 8 };

/** Communicators of processes whose devices are given. */
function communicators(devices: readonly HostDevice[]): Communicator[] {
  const size = devices.length;
  const asked: { kind: string; count: number; type: Type; address: number[]; to: number[]; given: Uint8Array[] }[] = [];
  const calls = new Array<number>(size).fill(0);
  const floats = ({ buffer }: Uint8Array) => new Float32Array(buffer as ArrayBuffer);
  /** `part`: where this process's part is or goes, if not in its place. */
  const ask = (rank: number, kind: string, address: number, count: number, type: Type, part?: number) => {
    const number = calls[rank]!++;
    asked[number] ??= { kind, count, type, address: [], to: [], given: [] };
    const call = asked[number];
    expect({ kind, count, type }).toEqual({ kind: call.kind, count: call.count, type: call.type });
    const bytes = count * BYTES[type];
    const all = kind === 'allReduce' ? bytes : bytes * size;
    call.address[rank] = address;
    const own = address + rank * bytes;
    call.to[rank] = part ?? own;
    const device = devices[rank]!;
    if (kind === 'allGather') device.memory(own, bytes).set(device.memory(part ?? own, bytes).slice());
    call.given[rank] = device.memory(address, all).slice();
    if (Object.keys(call.address).length < size) return;
    const partOf = (r: number, index: number) => call.given[r]!.subarray(index * bytes, (index + 1) * bytes);
    for (let r = 0; r < size; r++) {
      const result = devices[r]!.memory(call.address[r]!, all);
      if (kind === 'allGather') for (let i = 0; i < size; i++) result.set(partOf(i, i), i * bytes);
      else {
        const parts = call.given.map((given) => floats(given));
        const sum = parts[0]!.map((_, i) => parts.reduce((total, one) => total + one[i]!, 0));
        // A process is left with its own part; the others' hold anything.
        if (kind === 'reduceScatter')
          for (let i = 0; i < sum.length; i++) if (Math.floor(i / count) !== r) sum[i] = NaN;
        if (kind === 'reduceScatter' && call.to[r] !== call.address[r]! + r * bytes)
          devices[r]!.memory(call.to[r]!, bytes).set(new Uint8Array(sum.slice(r * count, (r + 1) * count).buffer));
        else result.set(new Uint8Array(sum.buffer));
      }
    }
  };
  return devices.map((_, rank) => {
    const made = {
      rank,
      size,
      reduceScatter: (address: number, count: number, type: Type, _: number, part?: number) =>
        ask(rank, 'reduceScatter', address, count, type, part),
      allGather: (address: number, count: number, type: Type, _: number, part?: number) =>
        ask(rank, 'allGather', address, count, type, part),
      allReduce: (address: number, count: number, type: Type) => ask(rank, 'allReduce', address, count, type),
      check: () => {},
      // The first process's device has such memory, as the second's might not.
      memory: (bytes: number) => (rank === 0 ? devices[0]!.allocate(bytes) : undefined),
    };
    return made as unknown as Communicator;
  });
}

const SHAPES: Record<string, number[]> = {
  'model.embed_tokens.weight': [40, 16],
  'model.layers.0.norm.weight': [16],
  'model.layers.0.gate.weight': [18, 16], // padded
  'model.layers.0.up.weight': [18, 16],
  'model.norm.weight': [16],
};
const values = (name: string, seed: number) => {
  const size = SHAPES[name]!.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: size }, (_, i) => ((i * 7 + seed) % 64) / 64); // exact in bfloat16
};
const isMatrix = (_: string, { rank }: Variable) => rank === 2;

let made = 0;

function setUp(shard: Shard = 'optimizer') {
  const devices = [new HostDevice(), new HostDevice()];
  const ends = communicators(devices);
  return devices.map((device, rank) => {
    const name = `host ${made++}`;
    registerBackend(name, () => device.backend);
    const on = <T>(run: () => T): T => {
      setBackend(name);
      return run();
    };
    return on(() => {
      const parameters = new Map(
        Object.entries(SHAPES).map(([key, shape]) => {
          const initial = tensor(values(key, 1), shape);
          const made = variable(initial);
          initial.dispose();
          return [key, made] as const;
        }),
      );
      const weights = new ShardedWeights(new Gpus(device.backend, ends[rank]!), parameters, isMatrix, { shard });
      return { weights, parameters, on, device };
    });
  });
}

it('adds in the order of the micro-batches on any number of processes', async () => {
  const gradientOf = (name: string, batch: number) =>
    Float32Array.from({ length: sizeOf(SHAPES[name]!) }, (_, i) => Math.sin(i * (batch + 1)) * 10 ** ((i + batch) % 5));
  const orderedStep = (size: number) => replayedStep(SHAPES, { size, batches: 4, orderedSums: true }, gradientOf);
  const alone = await orderedStep(1);
  for (const [name, sum] of alone.found) {
    const all = [0, 1, 2, 3].map((batch) => gradientOf(name, batch));
    const inOrder = all[0]!.map((_, i) => all.reduce((total, one) => Math.fround(total + one[i]!), 0));
    expect(sum, name).toEqual(inOrder);
    // Which another order would not give.
    expect(sum, name).not.toEqual(
      all[0]!.map((_, i) => all.reduceRight((total, one) => Math.fround(total + one[i]!), 0)),
    );
  }
  expect(alone.groups).toHaveLength(8);
  for (const size of [2, 4]) {
    const several = await orderedStep(size);
    expect(several.found).toEqual(alone.found);
    expect(several.groups).toEqual(alone.groups);
  }
});

function tearDown(processes: ReturnType<typeof setUp>): void {
  for (const { weights, parameters, on } of processes) {
    on(() => {
      for (const one of new Set([...weights.owned.values(), ...parameters.values()])) one.dispose();
    });
  }
}

/** The whole tensors, put together from what each process has of them. */
async function wholes(
  processes: ReturnType<typeof setUp>,
  partsOf: (weights: ShardedWeights) => ReadonlyMap<string, Tensor>,
) {
  const found = new Map(
    Object.entries(SHAPES).map(([name, [rows, columns = 1]]) => [name, new Float32Array(rows! * columns).fill(NaN)]),
  );
  for (const { weights, on, device } of processes) {
    const before = device.blocks;
    const snapshot = on(() => weights.snapshot([partsOf(weights)]));
    expect(snapshot.isCopy).toBe(true);
    for await (const { list, name, from, values } of snapshot.pieces()) {
      expect(list).toBe(0);
      expect(
        found
          .get(name)!
          .subarray(from, from + values.length)
          .every(Number.isNaN),
        name,
      ).toBe(true);
      found.get(name)!.set(values, from);
    }
    snapshot.dispose();
    // Fewer where what was sent of the last bucket goes as its sum is first read.
    expect(device.blocks).toBeLessThanOrEqual(before);
  }
  return found;
}

describe('weights shared by two processes', () => {
  it('are all there in bfloat16, each with its part in float32, and come together again', async () => {
    const processes = setUp();
    for (const { parameters, on } of processes)
      on(() => {
        for (const [name, one] of parameters) expect(one.dataSync()).toEqual(values(name, 1));
      });
    const sizes = processes.map(({ weights }) => [...weights.owned.values()].reduce((sum, { size }) => sum + size, 0));
    // Rows and columns of 18 are 24 in memory.
    expect(sizes[0]! + sizes[1]!).toBe(40 * 16 + 2 * 24 * 16 + 2 * 2 * 16);
    for (const [name, found] of await wholes(processes, ({ owned }) => owned)) expect(found).toEqual(values(name, 1));
    for (const name of Object.keys(SHAPES)) expect(processes[0]!.weights.shapeOf(name)).toEqual(SHAPES[name]);
    for (const { weights } of processes)
      for (const [name, part] of weights.owned) expect(weights.partOf(name, values(name, 1))).toHaveLength(part.size);
    tearDown(processes);
  });

  it.each<Shard>(['optimizer', 'gradients'])('get the sums of two micro-batches’ gradients: %s', async (shard) => {
    const processes = setUp(shard);
    const soFar = processes.map(() => undefined as Map<string, Tensor> | undefined);
    for (const { weights, on } of processes) on(() => weights.beginStep());
    for (const batch of [0, 1])
      for (const [rank, { weights, on, device }] of processes.entries())
        on(() => {
          const gradients = weights.beginBatch(soFar[rank], batch === 1);
          for (const name of Object.keys(SHAPES).reverse()) {
            const own = values(name, 10 * rank + batch);
            const before = gradients.get(name);
            let made: Tensor;
            // Some are added to where they lie, others made elsewhere.
            if (before && name.includes('up')) {
              const { address } = device.backend.stored(before);
              const { buffer, byteOffset } = device.memory(address, own.byteLength);
              const there = new Float32Array(buffer, byteOffset, own.length);
              there.set(there.map((x, i) => x + own[i]!));
              made = before;
            } else {
              const sum = before?.dataSync();
              made = tensor(sum ? own.map((x, i) => x + sum[i]!) : own, SHAPES[name]!);
              before?.dispose();
            }
            gradients.set(name, weights.settle(name, made));
          }
          weights.endBatch();
          soFar[rank] = gradients;
        });
    const sums = processes.map(({ weights, on }, rank) => on(() => weights.finishSums(soFar[rank]!)));
    const found = await wholes(processes, (weights) => sums[processes.findIndex((one) => one.weights === weights)]!);
    for (const [name, sum] of found) {
      const all = [0, 1, 10, 11].map((seed) => values(name, seed));
      expect(sum, name).toEqual(all[0]!.map((_, i) => all.reduce((total, one) => total + one[i]!, 0)));
    }
    const counted = processes.map(({ weights }, i) => weights.countedOnce(sums[i]!).flat().length);
    expect(counted[0]! - counted[1]!).toBe(2 + sums[0]!.size - sums[1]!.size);
    processes.forEach(({ on }, i) => {
      on(() => {
        for (const one of sums[i]!.values()) one.dispose();
      });
    });
    tearDown(processes);
  });

  it('have zeros for what a process has no gradient of', async () => {
    const processes = setUp();
    const sums = processes.map(({ weights, on }, rank) =>
      on(() => {
        weights.beginStep();
        const gradients = weights.beginBatch(undefined, true);
        if (rank === 1)
          for (const name of ['model.layers.0.up.weight', 'model.norm.weight']) {
            gradients.get(name)?.dispose();
            gradients.set(name, weights.settle(name, tensor(values(name, 3), SHAPES[name]!)));
          }
        weights.endBatch();
        return weights.finishSums(gradients);
      }),
    );
    const found = await wholes(processes, (weights) => sums[processes.findIndex((one) => one.weights === weights)]!);
    for (const [name, sum] of found) {
      const isThere = ['model.layers.0.up.weight', 'model.norm.weight'].includes(name);
      expect(sum, name).toEqual(isThere ? values(name, 3) : values(name, 3).fill(0));
    }
    processes.forEach(({ on }, i) => {
      on(() => {
        for (const one of sums[i]!.values()) one.dispose();
      });
    });
    tearDown(processes);
  });

  it.each<Shard>(['optimizer', 'weights'])('are there on both once each has changed its own: %s', (shard) => {
    const processes = setUp(shard);
    for (const { weights, on, device } of processes)
      on(() => {
        for (const one of weights.owned.values()) {
          // As AdamW does: the part in float32, and its copy in bfloat16.
          const entry = device.backend.stored(one);
          const { buffer, byteOffset } = device.memory(entry.address, one.size * 4);
          const part = new Float32Array(buffer, byteOffset, one.size);
          part.set(part.map((x) => x + 1));
          castTo(
            device.backend,
            { address: entry.copy ?? entry.address, type: entry.copy ? 'bf16' : 'f32' },
            entry,
            one.size,
          );
        }
        for (const inLayers of [false, true]) weights.renewWeights(inLayers);
      });
    // Nothing waits on such devices: what is gathered is there once both have asked for it.
    for (const [name, initial] of Object.keys(SHAPES).map((key) => [key, values(key, 1)] as const)) {
      const read = ({ parameters, on }: (typeof processes)[0]) => on(() => parameters.get(name)!.dataSync());
      read(processes[0]!);
      for (const one of [processes[1]!, processes[0]!]) expect(read(one), name).toEqual(initial.map((x) => x + 1));
    }
    tearDown(processes);
  });
});

it('sums tensors in place, padding and all', () => {
  const devices = [new HostDevice(), new HostDevice()];
  const ends = communicators(devices);
  const name = 'model.layers.0.gate.weight';
  const sums = devices.map(({ backend }, rank) => {
    const dataId = backend.write(values(name, 10 * rank), SHAPES[name]!, 'float32');
    const info = { dataId, shape: SHAPES[name]!, dtype: 'float32' as const };
    new Gpus(backend, ends[rank]!).sum([info]);
    return { backend, dataId };
  });
  for (const { backend, dataId } of sums)
    expect(backend.readSync(dataId)).toEqual(values(name, 0).map((x, i) => x + values(name, 10)[i]!));
});
