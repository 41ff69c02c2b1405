import { engine, type NamedAttrMap, type NamedTensorMap } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelName, Kernels } from '../kernels.js';

/** The active backend's own kernel, or the reference where it has none: for references that are made of others. */
export function activeKernel<Name extends KernelName>(
  name: Name,
  inputs: Kernels[Name]['inputs'],
  attrs: KernelAttributes<Name>,
): Kernels[Name]['outputs'] {
  const [named, given] = [inputs as unknown as NamedTensorMap, attrs as unknown as NamedAttrMap];
  return [engine().runKernel(name, named, given)].flat() as unknown as Kernels[Name]['outputs'];
}
