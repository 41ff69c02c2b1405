/**
 * The backend 'native': tensors are typed arrays as in tfjs's CPU backend, whose kernels serve here too; the kernels
 * that cost time are C++ functions on those arrays.
 */

import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import {
  type DataId,
  type DataType,
  findBackend,
  getKernel,
  getKernelsForBackend,
  type KernelConfig,
  registerBackend,
  registerKernel,
  type TensorInfo,
  unregisterKernel,
} from '@tensorflow/tfjs-core';
import { ArrayPool, OwnValues } from './memory.js';

export type Values = Float32Array | Int32Array;

/** What a kernel works with: the values behind its inputs, and tensors made of values. */
export interface KernelTools {
  /** The values themselves, not a copy. */
  read(info: TensorInfo): Values;
  make(shape: readonly number[], dtype: DataType, values: Values): TensorInfo;
  /** Room for an output, with whatever was in memory: the kernel writes all of it. */
  allocate(length: number): Float32Array;
  zeros(length: number): Float32Array;
}

export type NativeKernel = (
  inputs: Record<string, TensorInfo>,
  attrs: Record<string, unknown>,
  tools: KernelTools,
) => TensorInfo[] | undefined;

export class NativeBackend extends MathBackendCPU {
  readonly pool = new ArrayPool();

  makeOwn(shape: readonly number[], dtype: DataType, values: Values): TensorInfo {
    const info = this.makeTensorInfo([...shape], dtype, values);
    if (values instanceof Float32Array) this.data.set(info.dataId, new OwnValues(dtype, values) as never);
    return info;
  }

  override disposeData(dataId: DataId, force = false): boolean {
    const entry = this.data.has(dataId) ? (this.data.get(dataId) as unknown) : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && entry instanceof OwnValues && !entry.escaped) this.pool.give(entry.own);
    return gone;
  }
}

const kernels = new Map<string, { run: NativeKernel; single: boolean }>();

/** A kernel of the backend 'native'; it is registered when the backend is. Its outputs arrive as an array. */
export function defineKernel(name: string, run: NativeKernel): void {
  kernels.set(name, { run, single: false });
}

/** The same for a kernel of tfjs's own, whose one output arrives alone; undefined leaves the case to tfjs. */
export function defineSingleKernel(name: string, run: NativeKernel): void {
  kernels.set(name, { run, single: true });
}

let registered = false;

/** Registers the backend with tfjs, once: its CPU kernels under our name, then ours over them. */
export function registerNativeBackend(): void {
  if (registered) return;
  registered = true;
  registerBackend(
    'native',
    () => {
      const backend = new NativeBackend();
      (backend as unknown as { firstUse: boolean }).firstUse = false;
      return backend;
    },
    0,
  );
  for (const kernel of getKernelsForBackend('cpu')) {
    if (!kernels.has(kernel.kernelName)) registerKernel({ ...kernel, backendName: 'native' });
  }
  for (const [kernelName, { run, single }] of kernels) {
    if (getKernel(kernelName, 'native')) unregisterKernel(kernelName, 'native');
    const general = getKernel(kernelName, 'cpu');
    const kernelFunc = (args: Parameters<KernelConfig['kernelFunc']>[0]) => {
      const outputs = run(
        args.inputs as Record<string, TensorInfo>,
        (args.attrs ?? {}) as Record<string, unknown>,
        toolsOf(args.backend as NativeBackend),
      );
      if (!outputs) return general.kernelFunc(args);
      return single ? outputs[0]! : outputs;
    };
    registerKernel({ kernelName, backendName: 'native', kernelFunc });
  }
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
    zeros: (length) => new Float32Array(length),
  };
}

/** Whether nothing else holds these values, so that they may change in place. */
export function isSoleOwner(info: TensorInfo): boolean {
  const backend = findBackend('native') as NativeBackend;
  return backend.refCount(info.dataId) === 1;
}

/** The same, and the values are this backend's own, which nobody has read: a change cannot be seen from outside. */
export function isUnseen(info: TensorInfo): boolean {
  const entry = (findBackend('native') as NativeBackend).data.get(info.dataId) as unknown;
  return isSoleOwner(info) && entry instanceof OwnValues && !entry.escaped;
}

/** Another tensor of the same values. */
export function share(info: TensorInfo): TensorInfo {
  (findBackend('native') as NativeBackend).incRef(info.dataId);
  return { dataId: info.dataId, shape: info.shape, dtype: info.dtype };
}

export function sizeOf(info: TensorInfo): number {
  return info.shape.reduce((a, b) => a * b, 1);
}
