/**
 * Typed tables of kernels into tfjs's registry, which knows kernels by strings and their parts by no type at all: the one
 * place where a backend meets it.
 */
import {
  getKernel,
  getKernelsForBackend,
  type KernelConfig,
  type KernelFunc,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  registerKernel,
  type TensorInfo,
  unregisterKernel,
} from '@tensorflow/tfjs-core';
import type { KernelTable } from '../kernels.js';
import { kernelNames } from '../reference/register.js';
import type { TfjsKernelTable } from './tfjs_kernels.js';

/** What tfjs calls a kernel with. */
export type KernelCall = Parameters<KernelFunc>[0];

export interface BackendKernels<Tools> {
  /** Those of this package. */
  own: KernelTable<Tools>;
  /** Those of tfjs's own that the backend has a kernel for. */
  tfjs: TfjsKernelTable<Tools>;
}

type UntypedKernel<Tools, Output> = (
  inputs: NamedTensorInfoMap,
  attrs: NamedAttrMap | undefined,
  tools: Tools,
) => Output;

/**
 * Registers a backend's kernels with tfjs, in place of what is registered for it under their names.
 *
 * @param toolsOf what every kernel of the backend gets to work with
 * @param onCpu serves a kernel of tfjs's own that left its inputs to the CPU
 */
export function registerKernels<Tools>(
  backendName: string,
  { own, tfjs }: BackendKernels<Tools>,
  toolsOf: (backend: KernelCall['backend']) => Tools,
  onCpu: (kernelName: string, call: KernelCall) => TensorInfo | TensorInfo[],
): void {
  const register = (kernelName: string, kernelFunc: KernelFunc) => {
    if (getKernel(kernelName, backendName)) unregisterKernel(kernelName, backendName);
    registerKernel({ kernelName, backendName, kernelFunc });
  };
  for (const [name, kernel] of Object.entries(own)) {
    const run = kernel as unknown as UntypedKernel<Tools, TensorInfo[]>;
    register(name, ({ inputs, attrs, backend }) => run(inputs, attrs, toolsOf(backend)));
  }
  for (const [name, kernel] of Object.entries(tfjs)) {
    const run = kernel as unknown as UntypedKernel<Tools, TensorInfo | undefined>;
    register(name, (call) => run(call.inputs, call.attrs, toolsOf(call.backend)) ?? onCpu(name, call));
  }
}

/** tfjs's own kernels of its `cpu` backend, without ours, which the reference may have put there. */
export function cpuKernels(): KernelConfig[] {
  return getKernelsForBackend('cpu').filter(({ kernelName }) => !kernelNames.some((own) => own === kernelName));
}
