/** AdamW over all parameters in one launch, from a table of addresses. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { f32, i32, pointer } from '../driver.js';
import { ADAMW_ELEMENTS, PARAMETER, THREADS } from '../kernel_interface.js';
import { flatEntry } from '../matrix.js';
import { type Entry, elementsInUse, TYPE_CODE } from '../storage.js';
import type { CudaKernel, CudaKernels } from './define.js';

/** Master weights and moments are float32, whatever computed their first values. */
function master(backend: CudaBackend, tensor: TensorInfo): Entry {
  if (backend.stored(tensor).type !== 'bf16') return backend.stored(tensor);
  const entry = backend.entry(tensor);
  const wide = backend.cast(tensor, 'f32', 'float32');
  const { address } = backend.entry(wide);
  backend.entry(wide).address = entry.address;
  entry.copy = undefined;
  entry.address = address;
  entry.type = 'f32';
  backend.disposeData(wide.dataId);
  return entry;
}

/** The entries of a parameter's tensors, padded alike or not at all. */
function alike(backend: CudaBackend, tensors: readonly TensorInfo[]): [Entry, Entry, Entry, Entry] {
  const stored = tensors.map((tensor) => flatEntry(backend, tensor));
  const same = stored.every((entry) => rowStep(entry) === rowStep(stored[0]!));
  const entries = same ? stored : tensors.map((tensor) => backend.entry(tensor));
  return entries as [Entry, Entry, Entry, Entry];
}

/** By how much rows are longer than they have columns; their number in memory does not matter here. */
function rowStep({ rows }: Entry): number {
  return rows ? rows.stride - rows.columns : 0;
}

const adamW: CudaKernel<'AdamW'> = (
  inputs,
  { learningRate, beta1, beta2, epsilon, step, gradientScale, weightDecays },
  backend,
) => {
  let blocks = 0;
  const table = weightDecays.map((decay, p) => {
    const own = [inputs[`param${p}`]!, inputs[`m${p}`]!, inputs[`v${p}`]!];
    for (const tensor of own) master(backend, tensor);
    const [weight, first, second, gradient] = alike(backend, [...own, inputs[`grad${p}`]!]);
    const firstBlock = blocks;
    const size = elementsInUse(weight);
    blocks += Math.ceil(size / ADAMW_ELEMENTS);
    return {
      weight: weight.address,
      gradient: gradient.address,
      first: first.address,
      second: second.address,
      copy: weight.copy ?? 0,
      size,
      firstBlock,
      decay,
      gradientType: TYPE_CODE[gradient.type],
    };
  });
  backend.withScratch((scratch) =>
    backend.launch('adamw.cu', 'adamw', { grid: [blocks], block: THREADS }, [
      pointer(scratch.upload(PARAMETER.array(table))),
      i32(table.length),
      f32(learningRate),
      f32(beta1),
      f32(beta2),
      f32(epsilon),
      f32(1 / (1 - beta1 ** step)),
      f32(1 / (1 - beta2 ** step)),
      f32(gradientScale),
    ]),
  );
  return [];
};

export const optimizerKernels = { AdamW: adamW } satisfies CudaKernels;
