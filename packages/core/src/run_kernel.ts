import { engine, type NamedAttrMap, type NamedTensorMap } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelName, Kernels } from './kernels.js';
import { ensureReferenceKernels } from './reference/register.js';

/** Runs a kernel of ours on the active backend, recorded on the tape; the reference runs if the backend has none. */
export function runKernel<Name extends KernelName>(
  name: Name,
  inputs: Kernels[Name]['inputs'],
  attrs: KernelAttributes<Name>,
): Kernels[Name]['outputs'] {
  ensureReferenceKernels(engine().backendName);
  const outputs: unknown = engine().runKernel(
    name,
    inputs as unknown as NamedTensorMap,
    attrs as unknown as NamedAttrMap,
  );
  return (Array.isArray(outputs) ? outputs : [outputs]) as Kernels[Name]['outputs'];
}
