/**
 * What only the native attention kernels guarantee: the same bits on any number of threads, and skipping that changes
 * no result.
 */

import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { runKernel } from '@stickbreaking/core/backend';
import { type Tensor, tensor, tidy } from '@tensorflow/tfjs-core';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { native, setBlockSkipping, setThreads } from './index.js';

const probed = await native.probe();
const seed = chooseSeed();
const { normals } = seededRandom(seed, 'native attention');
const attrs = {
  cuSeqlens: Int32Array.of(0, 1, 70, 70, 500),
  cuSeqlensK: Int32Array.of(0, 1, 300, 310, 740),
  scale: 0.25,
};
const [heads, kvHeads, headDim] = [6, 2, 20];

function draw<Name extends string>(inputs: Record<Name, number[]>): Record<Name, Tensor> {
  const tensors = Object.entries<number[]>(inputs).map(([name, shape]) => [
    name,
    tensor(normals(shape.reduce((a, b) => a * b)), shape),
  ]);
  return Object.fromEntries(tensors) as Record<Name, Tensor>;
}

const qkv = () => draw({ q: [500, heads, headDim], k: [740, kvHeads, headDim], v: [740, kvHeads, headDim] });

describe.skipIf(!probed.available)('native attention', () => {
  beforeAll(() => selectBackend('native'));
  afterEach(() => {
    setBlockSkipping(true);
    setThreads(2);
  });

  function stickBreaking(inputs: ReturnType<typeof qkv>, given: ReturnType<typeof cotangents>) {
    return tidy(() => {
      const all = { ...attrs, attendCurrent: false };
      const [output, remainder, saved] = runKernel('StickBreakingAttention', inputs, all);
      const gradients = runKernel('StickBreakingAttentionGrad', { ...inputs, ...given, remainder, saved }, all);
      const values = [output, remainder, ...gradients].map((one) => one.dataSync() as Float32Array);
      return { values, stops: saved.dataSync() as Int32Array };
    });
  }
  const cotangents = () => draw({ dOutput: [500, heads, headDim], dRemainder: [500, heads] });

  it('gives the same bits on one thread and on five', () => {
    const [inputs, given] = [qkv(), cotangents()];
    const onThreads = (threads: number) => {
      setThreads(threads);
      return stickBreaking(inputs, given).values;
    };
    expect(onThreads(5)).toEqual(onThreads(1));
  });

  it('skips key blocks where the stick is exhausted, without a change in what float32 holds', () => {
    const [inputs, given] = [qkv(), cotangents()];
    const skipped = stickBreaking(inputs, given);
    setBlockSkipping(false);
    const whole = stickBreaking(inputs, given);
    expect(Math.max(...whole.stops)).toBe(0);
    expect(Math.max(...skipped.stops)).toBeGreaterThan(0);
    skipped.values.forEach((values, i) => {
      const off = values.reduce((most, value, j) => Math.max(most, Math.abs(value - whole.values[i]![j]!)), 0);
      const largest = whole.values[i]!.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(off).toBeLessThanOrEqual(2 ** -22 * largest);
    });
  });

  it('does not skip a far key whose value is so large that a crumb of stick shows', () => {
    const { q, k, v } = qkv();
    const values = v.dataSync().slice();
    values.fill(1e12, 310 * kvHeads * headDim, 330 * kvHeads * headDim);
    const inputs = { q, k, v: tensor(values, v.shape) };
    const given = cotangents();
    const skipped = stickBreaking(inputs, given).values[0]!;
    setBlockSkipping(false);
    const whole = stickBreaking(inputs, given).values[0]!;
    skipped.forEach((value, i) => {
      expect(Math.abs(value - whole[i]!)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(whole[i]!)));
    });
  });
});
