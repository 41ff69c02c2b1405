/** Registers the backend's kernels with TensorFlow.js, and for everything else the way to the CPU. */
import { cpuKernels, type KernelCall, registerKernels } from '@stickbreaking/core/backend';
import { getKernel, registerKernel, type TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from './backend.js';
import { runOnCpu } from './ops/fallback.js';
import { cudaKernels } from './ops/index.js';

/**
 * @param name that the backend is registered under
 * @param onCpu runs a kernel of tfjs that there is none here for, or none for these inputs
 */
export function registerCudaKernels(
  name: string,
  onCpu: (kernelName: string, call: KernelCall) => TensorInfo | TensorInfo[] = runOnCpu,
): void {
  registerKernels<CudaBackend>(name, cudaKernels, undefined, onCpu);
  for (const { kernelName } of cpuKernels()) {
    if (getKernel(kernelName, name)) continue;
    registerKernel({ kernelName, backendName: name, kernelFunc: (call) => onCpu(kernelName, call) });
  }
}
