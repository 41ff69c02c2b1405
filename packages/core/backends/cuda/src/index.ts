/**
 * The CUDA backend, as `selectBackend` sees it: opens the GPU, registers kernels, describes in one line what it found.
 */

import { type BackendCandidate, cpuKernels, registerKernels } from '@stickbreaking/core/backend';
import { getKernel, registerBackend, registerKernel, setBackend } from '@tensorflow/tfjs-core';
import { CudaBackend } from './backend.js';
import { CudaDriver } from './driver.js';
import { runOnCpu } from './ops/fallback.js';
import { cudaKernels } from './ops/index.js';

let opened: CudaBackend | undefined;

/**
 * Opens the GPU once and registers the backend 'cuda' with TensorFlow.js.
 * @throws an error with one clear line: no driver, no GPU, a GPU too old, a library missing.
 */
export function openCuda(): { backend: CudaBackend; description: string } {
  if (!opened) {
    const backend = new CudaBackend(new CudaDriver());
    registerBackend('cuda', () => backend, 0);
    registerKernels<CudaBackend>('cuda', cudaKernels, undefined, runOnCpu);
    for (const { kernelName } of cpuKernels()) {
      if (getKernel(kernelName, 'cuda')) continue;
      registerKernel({ kernelName, backendName: 'cuda', kernelFunc: (call) => runOnCpu(kernelName, call) });
    }
    opened = backend;
  }
  const { deviceName, computeCapability, totalMemory, driverVersion } = opened.driver;
  const memory = `${(totalMemory / 2 ** 30).toFixed(0)} GiB`;
  const driver = `${Math.floor(driverVersion / 1000)}.${Math.floor((driverVersion % 1000) / 10)}`;
  const description = `cuda: ${deviceName} (compute capability ${(computeCapability / 10).toFixed(1)}, ${memory}), driver API ${driver}, bfloat16`;
  return { backend: opened, description };
}

/** NVIDIA GPUs through the CUDA driver API, as `selectBackend` sees them. */
export const cuda: BackendCandidate = {
  name: 'cuda',
  probe: async () => {
    try {
      return { available: true, description: openCuda().description };
    } catch (error) {
      return { available: false, why: (error as Error).message };
    }
  },
  activate: async () => {
    openCuda();
    await setBackend('cuda');
  },
};
