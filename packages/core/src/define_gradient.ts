/** A kernel's gradient in tfjs's registry, with the types of the contract. */
import { registerGradient, type Tensor } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelName, Kernels } from './kernels.js';

type TensorOfEach<List extends readonly unknown[]> = { [Index in keyof List]: Tensor };

/** What the gradient reads again: inputs by name, and outputs by their places, ascending. */
interface Saved<Name extends KernelName, Inputs, Outputs> {
  inputs?: Inputs & readonly (keyof Kernels[Name]['inputs'])[];
  outputs?: Outputs;
}

/**
 * @param gradient from the gradients of all outputs, what was saved (inputs, then outputs) and the attributes to the
 *   gradients of the inputs
 */
export function defineGradient<
  Name extends KernelName,
  const Inputs extends readonly string[] = [],
  const Outputs extends readonly number[] = [],
>(
  kernelName: Name,
  { inputs, outputs }: Saved<Name, Inputs, Outputs>,
  gradient: (
    dys: Kernels[Name]['outputs'],
    saved: [...TensorOfEach<Inputs>, ...TensorOfEach<Outputs>],
    attrs: KernelAttributes<Name>,
  ) => { [Input in keyof Kernels[Name]['inputs']]?: () => Tensor },
): void {
  const untyped = gradient as unknown as (
    dys: Tensor[],
    saved: Tensor[],
    attrs: object,
  ) => Record<string, () => Tensor>;
  const last = Math.max(-1, ...(outputs ?? []));
  registerGradient({
    kernelName,
    inputsToSave: [...(inputs ?? [])],
    outputsToSave: Array.from({ length: last + 1 }, (_, i) => outputs!.includes(i)),
    // tfjs gives the gradient of an only output alone.
    gradFunc: (dys, saved, attrs) => untyped([dys].flat(), saved, attrs),
  });
}
