/** Chooses the BLAS for matmul: the system's best one through its C interface, or our own kernel. */
import type koffi from 'koffi';
import { SettingError } from './setting_error.js';

/** Environment variable: `own` for our own kernel, or a library's path or name; without it, the first that loads. */
export const BLAS_VARIABLE = 'STICKBREAKING_BLAS';

/** Libraries tuned for their machines; a distribution's plain libblas may be the slow reference, so it is not here. */
const known: Record<string, readonly string[]> = {
  linux: [
    ...['libmkl_rt.so.2', 'libmkl_rt.so'],
    ...['libopenblas.so.0', 'libopenblas.so'],
    ...['libblis.so.4', 'libblis.so'],
  ],
  darwin: ['/System/Library/Frameworks/Accelerate.framework/Accelerate'],
};

/**
 * Chooses what the loaded kernels use for matmul.
 *
 * @param named default: the value of the environment variable
 * @returns what the library says of itself, or its name; `blasName` shortens it for the user
 * @throws if a library is named that cannot be used
 */
export function chooseBlas(library: ReturnType<typeof koffi.load>, named = process.env[BLAS_VARIABLE]?.trim()): string {
  const use = library.func('int32_t sb_use_blas(str path, _Out_ void *description, int64_t size)');
  const serves = (path: string | null): string | undefined => {
    const description = Buffer.alloc(256);
    if (use(path, description, description.length) !== 1) return undefined;
    return description.toString('utf8', 0, description.indexOf(0)).trim();
  };
  if (named && named !== 'own') {
    const said = serves(named);
    if (said === undefined) {
      throw new SettingError(`${BLAS_VARIABLE} names '${named}', which does not load or has no cblas_sgemm.`);
    }
    return said || named;
  }
  for (const path of named === 'own' ? [] : (known[process.platform] ?? [])) {
    const said = serves(path);
    if (said !== undefined) return said || path.split('/').pop()!;
  }
  serves(null);
  return 'our own kernel';
}

/** Name and version alone: OpenBLAS goes on with every option that it was built with, and the processor it runs for. */
export function blasName(said: string): string {
  return /^OpenBLAS [\d.]+/.exec(said)?.[0] ?? said;
}
