/** How a kernel of this backend is written down: a name of TensorFlow.js's registry and a function of typed parts. */
import { type KernelConfig, registerKernel, type TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';

export interface KernelCall {
  inputs: Record<string, TensorInfo>;
  attrs: Record<string, unknown>;
  backend: CudaBackend;
}
export type CudaKernel = (call: KernelCall) => TensorInfo | TensorInfo[];
export type KernelTable = Record<string, CudaKernel>;

export const BACKEND_NAME = 'cuda';

export function registerTable(table: KernelTable): void {
  for (const [kernelName, run] of Object.entries(table)) {
    const kernelFunc = run as unknown as KernelConfig['kernelFunc'];
    registerKernel({ kernelName, backendName: BACKEND_NAME, kernelFunc });
  }
}

/** A tensor of the kernel's inputs; its absence is a mistake of the program. */
export function need(call: KernelCall, name: string): TensorInfo {
  const tensor = call.inputs[name];
  if (!tensor) throw new Error(`kernel input ${name} is missing`);
  return tensor;
}

/** The same data under another shape. */
export function alias(call: KernelCall, x: TensorInfo, shape: number[]): TensorInfo {
  call.backend.incRef(x.dataId);
  return { dataId: x.dataId, shape, dtype: x.dtype };
}
