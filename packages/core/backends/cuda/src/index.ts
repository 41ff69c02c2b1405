/**
 * The CUDA backend, as `selectBackend` sees it: opens the GPU, registers kernels, describes in one line what it found.
 */

import type { BackendCandidate } from '@stickbreaking/core/backend';
import { registerBackend, setBackend } from '@tensorflow/tfjs-core';
import { CudaBackend } from './backend.js';
import { architecture, compilerVersion, sourcesHash } from './compiler.js';
import { CudaDriver } from './driver.js';
import { blockSkippingBy } from './ops/block_skipping.js';
import { plainFire } from './ops/flash_attention.js';
import { sampleTokens } from './ops/sample.js';
import { registerCudaKernels } from './register.js';

export { type CountingCuda, registerCountingCuda } from './counting_device.js';
export { countGpus } from './driver_library.js';
export { ranOnCpu } from './ops/fallback.js';
export { Gpus } from './parallel/gpus.js';
export { Communicator, ncclId } from './parallel/nccl.js';
export { type Shard, ShardedWeights, type SharingOptions } from './parallel/sharded_weights.js';

let opened: CudaBackend | undefined;

/**
 * Opens the GPU once and registers the backend 'cuda' with TensorFlow.js.
 * @throws an error with one clear line: no driver, no GPU, a GPU too old, a library missing.
 */
export function openCuda(): {
  backend: CudaBackend;
  description: string;
  arithmetic: string;
  deviceMemory: number;
} {
  if (!opened) {
    const backend = new CudaBackend(new CudaDriver());
    registerBackend('cuda', () => backend, 0);
    registerCudaKernels('cuda');
    backend.sampleTokens = (logits, rows) => sampleTokens(backend, logits, rows);
    opened = backend;
  }
  const { deviceName, computeCapability, totalMemory, driverVersion } = opened.driver;
  const memory = `${(totalMemory / 2 ** 30).toFixed(0)} GiB`;
  const driver = `${Math.floor(driverVersion / 1000)}.${Math.floor((driverVersion % 1000) / 10)}`;
  const description = `cuda: ${deviceName} (compute capability ${(computeCapability / 10).toFixed(1)}, ${memory}), driver API ${driver}, bfloat16${opened.hopper ? '' : ', kernels without Hopper’s instructions (slower)'}`;
  const target = architecture(computeCapability, opened.hopper);
  const kernels = `kernels ${sourcesHash()} by NVRTC ${compilerVersion()} for ${target}`;
  const parts = [deviceName, kernels, `matmul by cuBLASLt ${opened.cublas.version}`];
  if (!opened.blockSkipping) parts.push('no block skipping');
  else if (!opened.levels) parts.push('block skipping by blocks');
  if (plainFire()) parts.push('plain FIRE');
  const arithmetic = `cuda: ${parts.join('; ')}`;
  return { backend: opened, description, arithmetic, deviceMemory: totalMemory };
}

/** NVIDIA GPUs through the CUDA driver API, as `selectBackend` sees them. */
export const cuda: BackendCandidate = {
  name: 'cuda',
  probe: async () => {
    // A value it cannot have is no reason to go on without the GPU.
    blockSkippingBy();
    try {
      const { description, arithmetic, deviceMemory } = openCuda();
      return { available: true, description, arithmetic, deviceMemory };
    } catch (error) {
      return { available: false, why: (error as Error).message };
    }
  },
  activate: async () => {
    openCuda();
    await setBackend('cuda');
  },
};
