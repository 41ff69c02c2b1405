/**
 * The backend 'native': tensors are typed arrays as in tfjs's CPU backend, whose kernels work here too; the kernels that
 * take time are C++ functions on those arrays.
 */

import {
  type BackendKernels,
  cpuKernels,
  type KernelTable,
  registerKernels,
  silenceGreeting,
  type TfjsKernelTable,
} from '@stickbreaking/core/backend';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import {
  type DataId,
  type DataType,
  findBackend,
  registerBackend,
  registerKernel,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import { ArrayPool, OwnValues } from './memory.js';

export type Values = Float32Array | Int32Array;

/** The tools of a kernel: reading the values of its inputs, and making tensors of values. */
export interface KernelTools {
  /** The values themselves, not a copy. */
  read(info: TensorInfo): Values;
  make(shape: readonly number[], dtype: DataType, values: Values): TensorInfo;
  /** Uninitialised memory for an output, all of which the kernel writes. */
  allocate(length: number): Float32Array;
  zeros(length: number): Float32Array;
}

/** Kernels of this package, and of tfjs, that run on the C++ library. */
export type NativeKernels = KernelTable<KernelTools>;
export type NativeTfjsKernels = TfjsKernelTable<KernelTools>;

export class NativeBackend extends MathBackendCPU {
  readonly pool = new ArrayPool();

  makeOwn(shape: readonly number[], dtype: DataType, values: Values): TensorInfo {
    const info = this.makeTensorInfo([...shape], dtype, values);
    if (values instanceof Float32Array) this.data.set(info.dataId, new OwnValues(dtype, values));
    return info;
  }

  override disposeData(dataId: DataId, force = false): boolean {
    const entry = this.data.has(dataId) ? (this.data.get(dataId) as unknown) : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && entry instanceof OwnValues && !entry.escaped) this.pool.give(entry.own);
    return gone;
  }
}

let registered = false;

/** Registers the backend with tfjs, once: the given kernels, and for the rest tfjs's CPU kernels under our name. */
export function registerNativeBackend(kernels: BackendKernels<KernelTools>): void {
  if (registered) return;
  registered = true;
  registerBackend(
    'native',
    () => {
      const backend = new NativeBackend();
      silenceGreeting(backend);
      return backend;
    },
    0,
  );
  for (const kernel of cpuKernels()) registerKernel({ ...kernel, backendName: 'native' });
  registerKernels('native', kernels, (backend) => toolsOf(backend as NativeBackend));
}

function toolsOf(backend: NativeBackend): KernelTools {
  return {
    read: (info) => {
      const entry = backend.data.get(info.dataId);
      const values = entry instanceof OwnValues ? entry.own : entry.values;
      return (
        values instanceof Float32Array || values instanceof Int32Array ? values : backend.readSync(info.dataId)
      ) as Values;
    },
    make: (shape, dtype, values) => backend.makeOwn(shape, dtype, values),
    allocate: (length) => backend.pool.take(length),
    zeros: (length) => backend.pool.takeZeros(length),
  };
}

/** Whether nothing else holds these values, so that they may be changed in place. */
export function isSoleOwner(info: TensorInfo): boolean {
  const backend = findBackend('native') as NativeBackend;
  return backend.refCount(info.dataId) === 1;
}

/** The same, and nobody outside this backend has read the values, so that a change cannot be noticed. */
export function isUnseen(info: TensorInfo): boolean {
  const entry = (findBackend('native') as NativeBackend).data.get(info.dataId) as unknown;
  return isSoleOwner(info) && entry instanceof OwnValues && !entry.escaped;
}

/** Another tensor with the same values. */
export function share(info: TensorInfo): TensorInfo {
  (findBackend('native') as NativeBackend).incRef(info.dataId);
  return { dataId: info.dataId, shape: info.shape, dtype: info.dtype };
}

export function sizeOf(info: TensorInfo): number {
  return info.shape.reduce((a, b) => a * b, 1);
}
