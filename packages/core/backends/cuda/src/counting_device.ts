/**
 * A GPU that only counts the memory asked of it and what comes to it from the host, and names what ran on the CPU: the backend
 * runs on it as on a real one, kernels do nothing and every value read is zero. Estimates of memory are held to what it says,
 * where no GPU is.
 */
import { registerBackend } from '@tensorflow/tfjs-core';
import { CudaBackend } from './backend.js';
import type { CudaDriver } from './driver.js';
import { runOnCpu } from './ops/fallback.js';
import { registerCudaKernels } from './register.js';

/** The driver's pool gives memory in such pieces. */
const GRANULE = 512;

/** A counting device, as `registerCountingCuda` gives it. */
export interface CountingCuda {
  backend: CudaBackend;
  /** Bytes in use and most ever in use since `reset`. */
  memory(): { used: number; peak: number };
  /** Bytes that have come from the host since `reset`. */
  uploaded(): number;
  /** Forgets the most that was in use, what came from the host, and memory that calls share. */
  reset(): void;
  /** The kernels of tfjs that had none here for their inputs and ran on the CPU, as they would with a GPU. */
  onCpu: Set<string>;
}

/** Registers such a device, an H100 but for that, as a tfjs backend of this name. */
export function registerCountingCuda(name: string): CountingCuda {
  const sizes = new Map<number, number>();
  let [next, used, peak, uploaded] = [2 ** 20, 0, 0, 0];
  const driver = {
    computeCapability: 90,
    multiprocessors: 132,
    sharedPerBlock: 227 * 1024,
    stream: 0,
    allocate: (bytes: number) => {
      const size = Math.ceil(Math.max(bytes, 1) / GRANULE) * GRANULE;
      const address = next;
      next += size;
      sizes.set(address, size);
      used += size;
      peak = Math.max(peak, used);
      return address;
    },
    release: (address: number) => {
      const size = sizes.get(address);
      if (size === undefined) throw new Error(`${address} was given back twice, or is no block`);
      sizes.delete(address);
      used -= size;
    },
    memory: () => ({ free: 0, used, peak }),
    call: () => {},
    launch: () => {},
    tensorMap: () => ({ bytes: new Uint8Array() }),
    synchronize: () => {},
    trim: () => {},
    createEvent: () => 0,
    createUrgentStream: () => 1,
    waitEvent: () => {},
    recordEvent: () => {},
    eventDone: () => true,
    addArena: (arena: unknown) => arena,
    releaseDeferred: () => {},
    endCapture: () => undefined,
  } as unknown as CudaDriver;
  const backend = new CudaBackend(driver, { cublas: { version: 'none', multiply: () => {} } });
  const upload = (_address: number, { byteLength }: ArrayBufferView) => {
    uploaded += byteLength;
  };
  Object.assign(backend, { uploads: { upload }, function: () => ({ name, handle: 0, sharedLimit: 0 }) });
  registerBackend(name, () => backend, 0);
  const onCpu = new Set<string>();
  registerCudaKernels(name, (kernelName, call) => {
    onCpu.add(kernelName);
    return runOnCpu(kernelName, call);
  });
  return {
    backend,
    memory: () => ({ used, peak }),
    uploaded: () => uploaded,
    reset: () => {
      backend.releaseWorkspace();
      [peak, uploaded] = [used, 0];
    },
    onCpu,
  };
}
