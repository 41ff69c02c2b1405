// Weights shared by two processes, each on a device of host memory: a collective happens once both have asked for it.
import { registerBackend, setBackend, type Tensor, tensor, type Variable, variable } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { HostDevice } from '../host_device.fixture.js';
import { Gpus } from './gpus.js';
import type { Communicator } from './nccl.js';
import { ShardedWeights } from './sharded_weights.js';

type Type = 'f32' | 'bf16' | 'f64';
const BYTES = { f32: 4, bf16: 2, f64: 8 };

/** Communicators of processes whose devices are given. */
function communicators(devices: readonly HostDevice[]): Communicator[] {
  const size = devices.length;
  const asked: { kind: string; count: number; type: Type; address: number[]; given: Uint8Array[] }[] = [];
  const calls = new Array<number>(size).fill(0);
  const floats = ({ buffer }: Uint8Array) => new Float32Array(buffer as ArrayBuffer);
  const ask = (rank: number, kind: string, address: number, count: number, type: Type) => {
    const number = calls[rank]!++;
    asked[number] ??= { kind, count, type, address: [], given: [] };
    const call = asked[number];
    expect({ kind, count, type }).toEqual({ kind: call.kind, count: call.count, type: call.type });
    const bytes = count * BYTES[type];
    const all = kind === 'allReduce' ? bytes : bytes * size;
    call.address[rank] = address;
    call.given[rank] = devices[rank]!.memory(address, all).slice();
    if (Object.keys(call.address).length < size) return;
    const part = (r: number, index: number) => call.given[r]!.subarray(index * bytes, (index + 1) * bytes);
    for (let r = 0; r < size; r++) {
      const result = devices[r]!.memory(call.address[r]!, all);
      if (kind === 'allGather') for (let i = 0; i < size; i++) result.set(part(i, i), i * bytes);
      else {
        const parts = call.given.map((given) => floats(given));
        const sum = parts[0]!.map((_, i) => parts.reduce((total, one) => total + one[i]!, 0));
        // A process is left with its own part; the others' hold anything.
        if (kind === 'reduceScatter')
          for (let i = 0; i < sum.length; i++) if (Math.floor(i / count) !== r) sum[i] = NaN;
        result.set(new Uint8Array(sum.buffer));
      }
    }
  };
  return devices.map((_, rank) => {
    const made = {
      rank,
      size,
      reduceScatter: (address: number, count: number, type: Type) => ask(rank, 'reduceScatter', address, count, type),
      allGather: (address: number, count: number, type: Type) => ask(rank, 'allGather', address, count, type),
      allReduce: (address: number, count: number, type: Type) => ask(rank, 'allReduce', address, count, type),
      check: () => {},
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

function setUp() {
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
      const weights = new ShardedWeights(new Gpus(device.backend, ends[rank]!), parameters, isMatrix);
      return { weights, parameters, on, device };
    });
  });
}

function tearDown(processes: ReturnType<typeof setUp>): void {
  for (const { weights, parameters, on } of processes) {
    on(() => {
      for (const one of new Set([...weights.owned.values(), ...parameters.values()])) one.dispose();
    });
  }
}

/** The whole tensors as the first process has them. */
function wholes(
  processes: ReturnType<typeof setUp>,
  partsOf: (weights: ShardedWeights) => ReadonlyMap<string, Tensor>,
) {
  // Nothing waits on such devices: the second process asks first, and what the first reads is there then.
  const [first, second] = processes as [(typeof processes)[0], (typeof processes)[0]];
  second.on(() => {
    for (const { values } of second.weights.whole(partsOf(second.weights))) expect(values).toBeUndefined();
  });
  return first.on(() => [...first.weights.whole(partsOf(first.weights))]);
}

describe('weights shared by two processes', () => {
  it('are all there in bfloat16, each with its part in float32, and come together again', () => {
    const processes = setUp();
    for (const { parameters, on } of processes)
      on(() => {
        for (const [name, one] of parameters) expect(one.dataSync()).toEqual(values(name, 1));
      });
    const sizes = processes.map(({ weights }) => [...weights.owned.values()].reduce((sum, { size }) => sum + size, 0));
    // Rows and columns of 18 are 24 in memory.
    expect(sizes[0]! + sizes[1]!).toBe(40 * 16 + 2 * 24 * 16 + 2 * 2 * 16);
    for (const { name, shape, values: found } of wholes(processes, ({ owned }) => owned)) {
      expect(shape).toEqual(SHAPES[name]);
      expect(found).toEqual(values(name, 1));
    }
    for (const { weights } of processes)
      for (const [name, part] of weights.owned) expect(weights.partOf(name, values(name, 1))).toHaveLength(part.size);
    tearDown(processes);
  });

  it('get the sums of gradients that were made elsewhere', () => {
    const processes = setUp();
    const sums = processes.map(({ weights, on }, rank) =>
      on(() => {
        const gradients = weights.zeroSums();
        for (const name of Object.keys(SHAPES).reverse()) {
          gradients.get(name)?.dispose();
          gradients.set(name, weights.settle(name, tensor(values(name, 10 * rank), SHAPES[name]!), true));
        }
        return weights.finishSums(gradients);
      }),
    );
    const found = wholes(processes, (weights) => sums[processes.findIndex((one) => one.weights === weights)]!);
    for (const { name, values: sum } of found) {
      const expected = values(name, 0).map((x, i) => x + values(name, 10)[i]!);
      expect(sum, name).toEqual(expected);
    }
    const counted = processes.map(({ weights }, i) => weights.countedOnce(sums[i]!).length);
    expect(counted[0]! - counted[1]!).toBe(2 + sums[0]!.size - sums[1]!.size);
    processes.forEach(({ on }, i) => {
      on(() => {
        for (const one of sums[i]!.values()) one.dispose();
      });
    });
    tearDown(processes);
  });

  it('are brought to the other process once each has changed its own', () => {
    const processes = setUp();
    for (const { weights, on, device } of processes)
      on(() => {
        for (const one of weights.owned.values()) {
          // As AdamW does: the part in float32, and its copy in bfloat16.
          const entry = device.backend.stored(one);
          const { buffer, byteOffset } = device.memory(entry.address, one.size * 4);
          const part = new Float32Array(buffer, byteOffset, one.size);
          part.set(part.map((x) => x + 1));
          device.backend.castTo(
            { address: entry.copy ?? entry.address, type: entry.copy ? 'bf16' : 'f32' },
            entry,
            one.size,
          );
        }
        weights.gatherWeights();
      });
    for (const { parameters, on } of processes)
      on(() => {
        for (const [name, one] of parameters) expect(one.dataSync()).toEqual(values(name, 1).map((x) => x + 1));
      });
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
