/** The functions of cuBLASLt that are called, as koffi binds them. */
import type { LibraryHandle } from 'koffi';

/** Where alpha and beta lie: in the host's memory or the device's. */
function matmul(factor: 'void*' | 'uint64'): string[] {
  const operands = (count: number) => Array<string>(count).fill('uint64');
  return [...operands(2), factor, ...operands(4), factor, ...operands(4), 'void*', 'uint64', 'size_t', 'uint64'];
}

export function bindCublasLt(library: LibraryHandle): Record<string, (...args: unknown[]) => number> {
  const signatures: Record<string, string[]> = {
    cublasLtCreate: ['void*'],
    cublasLtMatmulDescCreate: ['void*', 'int', 'int'],
    cublasLtMatmulDescSetAttribute: ['uint64', 'int', 'void*', 'size_t'],
    cublasLtMatrixLayoutCreate: ['void*', 'int', 'uint64', 'uint64', 'int64'],
    cublasLtMatrixLayoutSetAttribute: ['uint64', 'int', 'void*', 'size_t'],
    cublasLtMatmulPreferenceCreate: ['void*'],
    cublasLtMatmulPreferenceDestroy: ['uint64'],
    cublasLtMatmulDescDestroy: ['uint64'],
    cublasLtMatrixLayoutDestroy: ['uint64'],
    cublasLtMatmulPreferenceSetAttribute: ['uint64', 'int', 'void*', 'size_t'],
    cublasLtMatmulAlgoGetHeuristic: [...Array<string>(7).fill('uint64'), 'int', 'void*', 'void*'],
    cublasLtMatmul: matmul('void*'),
    cublasLtMatmulOnDevice: matmul('uint64'),
  };
  return Object.fromEntries(
    Object.entries(signatures).map(([name, types]) => [
      name,
      library.func(name.replace('OnDevice', ''), 'int', types) as (...a: unknown[]) => number,
    ]),
  );
}
