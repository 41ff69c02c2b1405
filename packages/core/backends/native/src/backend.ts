/**
 * The backend 'native': tensors are typed arrays as in tfjs's CPU backend, whose kernels work here too; the kernels that
 * take time are C++ functions on those arrays.
 */

import {
  type BackendKernels,
  cpuKernels,
  type DecodeStep,
  type KernelTable,
  registerKernels,
  type SampledTokens,
  type SamplingRow,
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
  type Tensor,
  type Tensor1D,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import { ArrayPool, OwnValues } from './memory.js';
import { RecordedSteps, type Recording, recordable } from './recorded_steps.js';
import { sampleTokens } from './sample.js';

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
  pool = new ArrayPool();
  /** The step of generation that is recorded just now. */
  recording: Recording | undefined;
  private readonly steps = new RecordedSteps(this);

  makeOwn(shape: readonly number[], dtype: DataType, values: Values): TensorInfo {
    const info = this.makeTensorInfo([...shape], dtype, values);
    if (values instanceof Float32Array) this.put(info, new OwnValues(dtype, values));
    return info;
  }

  /** A tensor's entry, in place of the one that it has. */
  put({ dataId }: TensorInfo, entry: OwnValues): void {
    this.data.set(dataId, entry);
    this.recording?.made.push(entry);
  }

  /** core's `decodeStep`: recorded as a list of calls of the library. */
  recordDecodeStep(step: DecodeStep, run: (tokens: Tensor1D, step: DecodeStep) => Tensor): Tensor {
    return this.steps.run(step, run);
  }

  /** core's `sampleTokens`. */
  sampleTokens(logits: TensorInfo, rows: readonly SamplingRow[]): Promise<SampledTokens> {
    return Promise.resolve(sampleTokens(this.valuesOf(logits) as Float32Array, logits.shape as [number, number], rows));
  }

  /** The values themselves, for kernels of ours. */
  valuesOf(info: TensorInfo): Values {
    const entry = this.data.get(info.dataId);
    this.recording?.noteRead(info.dataId, entry);
    const values = entry instanceof OwnValues ? entry.own : entry.values;
    return (
      values instanceof Float32Array || values instanceof Int32Array ? values : this.readSync(info.dataId)
    ) as Values;
  }

  /** Whether a tensor has still this entry. */
  holds(dataId: DataId, entry: unknown): boolean {
    return this.data.has(dataId) && (this.data.get(dataId) as unknown) === entry;
  }

  override disposeData(dataId: DataId, force = false): boolean {
    const entry = this.data.has(dataId) ? (this.data.get(dataId) as unknown) : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && entry instanceof OwnValues && !entry.escaped && entry.own instanceof Float32Array)
      this.pool.give(entry.own);
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
  registerKernels('native', { own: recordable(kernels.own), tfjs: recordable(kernels.tfjs) }, (backend) =>
    toolsOf(backend as NativeBackend),
  );
}

function toolsOf(backend: NativeBackend): KernelTools {
  return {
    read: (info) => backend.valuesOf(info),
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
