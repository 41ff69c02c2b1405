/**
 * Puts typed tables of kernels into tfjs's registry, which is untyped and knows kernels by strings. The only place
 * where a backend touches it.
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

/** The argument with which tfjs calls a kernel. */
export type KernelCall = Parameters<KernelFunc>[0];

/** All kernels that a backend has of its own. */
export interface BackendKernels<Tools> {
  /** Those of this package's contract. */
  own: KernelTable<Tools>;
  /** Those of tfjs that the backend replaces. */
  tfjs: TfjsKernelTable<Tools>;
}

type UntypedKernel<Tools, Output> = (
  inputs: NamedTensorInfoMap,
  attrs: NamedAttrMap | undefined,
  tools: Tools,
) => Output;

/**
 * Registers a backend's kernels with tfjs, replacing what is registered for it under their names.
 *
 * @param toolsOf the third argument of each of the backend's kernels; default: the backend itself
 * @param onCpu runs a kernel of tfjs for inputs that the backend's own declined by returning undefined; default: tfjs's
 *   CPU kernel on these very inputs, for a backend that extends tfjs's CPU backend
 */
export function registerKernels<Tools>(
  backendName: string,
  { own = {}, tfjs = {} }: Partial<BackendKernels<Tools>>,
  toolsOf: (backend: KernelCall['backend']) => Tools = (backend) => backend as Tools,
  onCpu: (kernelName: string, call: KernelCall) => TensorInfo | TensorInfo[] = (name, call) =>
    getKernel(name, 'cpu').kernelFunc(call),
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
    const run = kernel as unknown as UntypedKernel<Tools, TensorInfo | TensorInfo[] | undefined>;
    register(name, (call) => run(call.inputs, call.attrs, toolsOf(call.backend)) ?? onCpu(name, call));
  }
}

/** The kernels of tfjs's `cpu` backend, without ours, which the reference may have added to it. */
export function cpuKernels(): KernelConfig[] {
  return getKernelsForBackend('cpu').filter(({ kernelName }) => !kernelNames.some((own) => own === kernelName));
}
