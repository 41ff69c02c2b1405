/**
 * Processes that share weights, one after another on devices of host memory, each twice: what a process sends in the first
 * round all others have in the second, whose results count. What is sent must not depend on what has come.
 */
import { registerBackend, setBackend, type Tensor, tensor, type Variable, variable } from '@tensorflow/tfjs-core';
import { HostDevice } from '../host_device.fixture.js';
import { Gpus } from './gpus.js';
import type { Communicator } from './nccl.js';
import { ShardedWeights, type SharingOptions } from './sharded_weights.js';

type Type = 'f32' | 'bf16' | 'f64';
const BYTES = { f32: 4, bf16: 2, f64: 8 };

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** @param sent what each call sent, by the calls' numbers and the processes; to be the same in both rounds */
function replayed(device: HostDevice, rank: number, size: number, sent: Uint8Array[][]): Communicator {
  let calls = 0;
  const exchange = (address: number, bytes: number, take: (from: number, given: Uint8Array) => void) => {
    const call = calls++;
    sent[call] ??= [];
    sent[call]![rank] = device.memory(address, bytes).slice();
    for (let from = 0; from < size; from++) {
      const given = sent[call]![from];
      if (given) take(from, given);
    }
  };
  /** Sums in the order of the processes, which a ring would not make in this one. */
  const sum = (address: number, count: number): Float32Array => {
    const total = new Float32Array(count);
    exchange(address, count * BYTES.f32, (_, { buffer }) => {
      new Float32Array(buffer).forEach((x, i) => {
        total[i] = total[i]! + x;
      });
    });
    return total;
  };
  return {
    ...{ rank, size, check: () => {}, memory: () => undefined },
    allToAll: (address: number, to: number, bytes: number) =>
      exchange(address, bytes * size, (from, given) =>
        device.memory(to + from * bytes, bytes).set(given.subarray(rank * bytes, (rank + 1) * bytes)),
      ),
    allGather: (address: number, count: number, type: Type, _: number, part: number) =>
      exchange(part, count * BYTES[type], (from, given) =>
        device.memory(address + from * given.length, given.length).set(given),
      ),
    allReduce: (address: number, count: number) =>
      device.memory(address, count * BYTES.f32).set(new Uint8Array(sum(address, count).buffer)),
    reduceScatter: (address: number, count: number, _: 'f32', __: number, part?: number) => {
      const bytes = count * BYTES.f32;
      const own = new Uint8Array(sum(address, count * size).buffer, rank * bytes, bytes);
      device.memory(part ?? address + rank * bytes, bytes).set(own);
    },
  } as unknown as Communicator;
}

let made = 0;

/** Tests make some sixty of them. */
const SMALL = 2 ** 21;

/**
 * A step's sums of some micro-batches' gradients, dealt to so many processes in turns, and the groups that a norm is taken of.
 *
 * @param shapes of the parameters; those of two dimensions are matrices
 */
export async function replayedStep(
  shapes: Readonly<Record<string, number[]>>,
  { size, batches, ...how }: SharingOptions & { size: number; batches: number },
  gradientOf: (name: string, batch: number) => Float32Array,
): Promise<{ found: Map<string, Float32Array>; groups: number[][]; sentBytes: number }> {
  const sent: Uint8Array[][] = [];
  const found = new Map(Object.entries(shapes).map(([name, shape]) => [name, new Float32Array(sizeOf(shape))]));
  const groups: number[][] = [];
  const isMatrix = (_: string, { rank }: Variable) => rank === 2;
  for (const isSecond of [false, true])
    for (let rank = 0; rank < size; rank++) {
      const device = new HostDevice(SMALL);
      const name = `replayed ${made++}`;
      registerBackend(name, () => device.backend);
      setBackend(name);
      const parameters = new Map(
        Object.entries(shapes).map(([key, shape]) => {
          const zeros = tensor(new Float32Array(sizeOf(shape)), shape);
          return [key, variable(zeros)] as const;
        }),
      );
      const gpus = new Gpus(device.backend, replayed(device, rank, size, sent));
      const weights = new ShardedWeights(gpus, parameters, isMatrix, how);
      weights.beginStep();
      let gradients: Map<string, Tensor> | undefined;
      for (let round = 0; round * size < batches; round++) {
        gradients = weights.beginBatch(gradients, (round + 1) * size >= batches);
        const batch = round * size + rank;
        for (const key of batch < batches ? Object.keys(shapes).reverse() : []) {
          const values = gradientOf(key, batch);
          // As matmuls do: added to what is there, if anything is.
          const there = gradients.get(key);
          const before = there && !device.backend.data.get(there.dataId).blank ? there.dataSync() : undefined;
          there?.dispose();
          const whole = before ? values.map((x, i) => x + before[i]!) : values;
          gradients.set(key, weights.settle(key, tensor(whole, shapes[key]!)));
        }
        weights.endBatch();
      }
      const sums = weights.finishSums(gradients!);
      if (!isSecond) continue;
      for (const group of weights.countedOnce(sums)) groups.push(group.flatMap((one) => [...one.dataSync()]));
      for await (const piece of weights.snapshot([sums]).pieces()) found.get(piece.name)!.set(piece.values, piece.from);
    }
  return { found, groups, sentBytes: sent.reduce((sum, [one]) => sum + one!.length, 0) };
}
