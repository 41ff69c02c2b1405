/** The type of this backend's kernels: functions of typed inputs, attributes and the backend. */
import type {
  BackendKernel,
  KernelName,
  KernelTable,
  TfjsKernel,
  TfjsKernelName,
  TfjsKernelTable,
} from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';

export type CudaKernel<Name extends KernelName> = BackendKernel<Name, CudaBackend>;
export type CudaKernels = KernelTable<CudaBackend>;
/** Of tfjs's own kernels; inputs that it gives undefined for go to the CPU (fallback.ts). */
export type CudaTfjsKernel<Name extends TfjsKernelName> = TfjsKernel<Name, CudaBackend>;
export type CudaTfjsKernels = TfjsKernelTable<CudaBackend>;

/** The same data under another shape. */
export function alias(backend: CudaBackend, x: TensorInfo, shape: number[]): TensorInfo {
  backend.incRef(x.dataId);
  return { dataId: x.dataId, shape, dtype: x.dtype };
}
