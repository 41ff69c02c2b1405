// What has no GPU kernel runs on tfjs's CPU backend. Of the GPU's backend it asks for reading and writing alone: an array
// stands for its memory here.
import { silenceGreeting } from '@stickbreaking/core/backend';
import { type DataId, findBackend, type TensorInfo } from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { runOnCpu } from './fallback.js';

const memory = new WeakMap<DataId, Float32Array>();
const gpu = {
  readSync: (id: DataId) => memory.get(id)!,
  write(values: Float32Array): DataId {
    const id = {};
    memory.set(id, Float32Array.from(values));
    return id;
  },
};
const onGpu = (shape: number[], ...values: number[]): TensorInfo => ({
  dataId: gpu.write(Float32Array.from(values)),
  shape,
  dtype: 'float32',
});

beforeAll(() => silenceGreeting(findBackend('cpu')));

it('gives the result of inputs by name', () => {
  const inputs = { a: onGpu([2, 1], 1, 2), b: onGpu([3], 10, 20, 30) };
  const sum = runOnCpu('Add', { inputs, backend: gpu }) as TensorInfo;
  expect(sum.shape).toEqual([2, 3]);
  expect([...memory.get(sum.dataId)!]).toEqual([11, 21, 31, 12, 22, 32]);
});

it('gives the result of a list of inputs', () => {
  // tfjs hands a list over as it is, which its type of a call does not say.
  const inputs = [onGpu([2, 1], 1, 2), onGpu([2, 2], 3, 4, 5, 6)] as unknown as Record<string, TensorInfo>;
  const joined = runOnCpu('Concat', { inputs, attrs: { axis: 1 }, backend: gpu }) as TensorInfo;
  expect(joined.shape).toEqual([2, 3]);
  expect([...memory.get(joined.dataId)!]).toEqual([1, 3, 4, 2, 5, 6]);
});

it('names a kernel that nobody has', () => {
  expect(() => runOnCpu('Nothing', { inputs: {}, backend: gpu })).toThrow(/no kernel Nothing/);
});
