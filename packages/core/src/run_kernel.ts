import { engine, type NamedAttrMap, type NamedTensorMap, type Tensor } from '@tensorflow/tfjs-core';
import type { KernelName, Kernels } from './kernels.js';
import { ensureReferenceKernels } from './reference/register.js';

/** Runs a kernel of ours on the active backend, on the tape, with the reference standing in where it has none. */
export function runKernel<Name extends KernelName>(
  name: Name,
  inputs: Kernels[Name]['inputs'],
  attrs: Kernels[Name]['attrs'],
): Tensor[] {
  ensureReferenceKernels(engine().backendName);
  const outputs = engine().runKernel(name, inputs as unknown as NamedTensorMap, attrs as unknown as NamedAttrMap);
  return (Array.isArray(outputs) ? outputs : [outputs]) as Tensor[];
}
