/** The native CPU backend, as `selectBackend` sees it: compiles or finds its library, and describes it in one line. */

import type { BackendCandidate } from '@stickbreaking/core/backend';
import { setBackend } from '@tensorflow/tfjs-core';
import { registerNativeBackend } from './backend.js';
import { blasName, chooseBlas } from './blas.js';
import { nativeKernels } from './kernels.js';
import { cpuName, loadLibrary, nativeFunction } from './library.js';
import { SettingError } from './setting_error.js';

export { nativeFunction } from './library.js';

/** Sets the number of threads; results do not depend on it. */
export function setThreads(threads: number): void {
  nativeFunction('void sb_set_threads(int32_t threads)')(threads);
}

/** The number of threads that the kernels use. The backend must be loaded. */
export function getThreads(): number {
  const threads = new Int32Array(1);
  nativeFunction('void sb_get_threads(void *threads)')(threads);
  return threads[0]!;
}

/**
 * Changes the BLAS of a loaded backend: `own`, a library, or by default what the machine has.
 *
 * @returns a name for the user
 */
export async function setBlas(named?: string): Promise<string> {
  return blasName(chooseBlas((await loadLibrary()).library, named));
}

/** Switches block skipping. Without it, stick-breaking attention visits all keys even once the sticks are exhausted. */
export function setBlockSkipping(on: boolean): void {
  nativeFunction('void sb_set_block_skipping(int32_t on)')(on ? 1 : 0);
}

/** C++ kernels compiled for this machine, as `selectBackend` sees them. */
export const native: BackendCandidate = {
  name: 'native',
  probe: async () => {
    try {
      const { compiler, blas, build, notCached } = await loadLibrary();
      const parts = [`C++ kernels by ${compiler.version}`, `matmul by ${blasName(blas)}`, `${getThreads()} threads`];
      if (notCached) parts.push(`compiled for this run alone (${notCached})`);
      // The threads are not part of it: results do not depend on their number.
      const arithmetic = `native: kernels ${build} by ${compiler.version}, for ${cpuName()}; matmul by ${blas}`;
      return { available: true, description: `native: ${parts.join('; ')}`, arithmetic };
    } catch (error) {
      if (error instanceof SettingError) throw error;
      return { available: false, why: (error as Error).message.split('\n')[0]! };
    }
  },
  activate: async () => {
    await loadLibrary();
    registerNativeBackend(nativeKernels);
    await setBackend('native');
  },
};
