/** Registers a kernel's gradient with tfjs, typed by the contract. */
import { registerGradient, type Tensor } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelName, Kernels } from './kernels.js';

type TensorOfEach<List extends readonly unknown[]> = { [Index in keyof List]: Tensor };

/** What is saved for the gradient: inputs by name, and outputs by index, ascending. */
interface Saved<Name extends KernelName, Inputs, Outputs> {
  inputs?: Inputs & readonly (keyof Kernels[Name]['inputs'])[];
  outputs?: Outputs;
}

/**
 * @param gradient gets the gradients of all outputs, what was saved (inputs, then outputs) and the attributes; returns
 *   the gradients of the inputs
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
    // If there is only one output, tfjs passes its gradient without an array.
    gradFunc: (dys, saved, attrs) => untyped([dys].flat(), saved, attrs),
  });
}
