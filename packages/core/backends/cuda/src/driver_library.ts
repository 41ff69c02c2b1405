/** NVIDIA's driver library on this machine, and how many GPUs it shows. */
import koffi, { type LibraryHandle } from 'koffi';
import { CudaError } from './errors.js';
import { loadLibrary } from './libraries.js';

/** CUDA_SUCCESS */
export const SUCCESS = 0;

/** How many GPUs this process may use; 0 where there is no driver. */
export function countGpus(): number {
  try {
    const library = openDriverLibrary();
    const count = new Int32Array(1);
    if (library.func('cuInit', 'int', ['uint'])(0) !== SUCCESS) return 0;
    return library.func('cuDeviceGetCount', 'int', ['void*'])(count) === SUCCESS ? count[0]! : 0;
  } catch {
    return 0;
  }
}

export function openDriverLibrary(): LibraryHandle {
  for (const name of ['libcuda.so.1', 'libcuda.so', 'nvcuda.dll'])
    try {
      return koffi.load(name);
    } catch {}
  try {
    return loadLibrary('libcuda', ['libcuda.so.1']).handle;
  } catch {
    throw new CudaError(
      'no NVIDIA driver: libcuda.so.1 is not on this machine; install the driver, or use the native backend',
    );
  }
}
