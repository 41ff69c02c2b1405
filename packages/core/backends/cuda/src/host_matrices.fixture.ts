/** Matrices as rows of numbers, on a device of host memory. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { HostDevice } from './host_device.fixture.js';

export type Rows = number[][];

/** a · b */
export const times = (a: Rows, b: Rows): Rows =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((sum, x, l) => sum + x * b[l]![j]!, 0)));

export const turned = (a: Rows): Rows => a[0]!.map((_, j) => a.map((row) => row[j]!));

/** A device of its own, and how a matrix comes to it. */
export function hostMatrices() {
  const device = new HostDevice();
  const { backend } = device;
  const put = (rows: Rows): TensorInfo => {
    const shape = [rows.length, rows[0]!.length];
    return { dataId: backend.write(Float32Array.from(rows.flat()), shape, 'float32'), shape, dtype: 'float32' };
  };
  return { device, backend, put };
}
