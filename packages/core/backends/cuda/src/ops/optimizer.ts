/** AdamW over all parameters in one launch, from a table of addresses. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { castInto } from '../casts.js';
import { releaseCopies } from '../entry_memory.js';
import { ADAMW_ELEMENTS, PARAMETER, THREADS } from '../kernel_interface.js';
import { f32, i32, pointer } from '../launch.js';
import { flatEntry } from '../matrix.js';
import { BYTES, type Entry, elementsInUse, elementsOf, TYPE_CODE } from '../storage.js';
import type { CudaKernel, CudaKernels } from './define.js';

/** Master weights are float32 and moments of the type asked for, whatever computed their first values. */
function keepAs(backend: CudaBackend, tensor: TensorInfo, type: 'f32' | 'bf16'): void {
  const entry = backend.stored(tensor);
  if (entry.type === type) return;
  const other = inType(backend, tensor, type);
  const made = backend.stored(other);
  releaseCopies(backend.driver, entry);
  const { address, memory, rows } = entry;
  Object.assign(entry, { address: made.address, type, rows: made.rows, memory: undefined });
  Object.assign(made, { address, memory, rows });
  backend.disposeData(other.dataId);
}

/** A new tensor of the same numbers in another type, its rows with the same padding. */
function inType(backend: CudaBackend, tensor: TensorInfo, type: 'f32' | 'bf16'): TensorInfo {
  const entry = flatEntry(backend, tensor);
  const elements = elementsOf(entry);
  const address = backend.driver.allocate(elements * BYTES[type]);
  castInto(backend, address, type, entry.address, entry.type, elements);
  return backend.place({ shape: tensor.shape, type, address, ...(entry.rows ? { rows: entry.rows } : {}) });
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
  { learningRate, beta1, beta2, epsilon, step, gradientScale, weightDecays, momentType = 'float32' },
  backend,
) => {
  const narrow = momentType === 'bfloat16';
  let blocks = 0;
  const table = weightDecays.map((decay, p) => {
    const own = [inputs[`param${p}`]!, inputs[`m${p}`]!, inputs[`v${p}`]!];
    own.forEach((tensor, i) => {
      keepAs(backend, tensor, narrow && i > 0 ? 'bf16' : 'f32');
    });
    const [weight, first, second, gradient] = alike(backend, [...own, inputs[`grad${p}`]!]);
    weight.updates = (weight.updates ?? 0) + 1;
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
    backend.launch('adamw.cu', narrow ? 'adamw_bf16' : 'adamw', { grid: [blocks], block: THREADS }, [
      pointer(scratch.upload(PARAMETER.array(table))),
      i32(table.length),
      f32(learningRate),
      f32(beta1),
      f32(beta2),
      f32(epsilon),
      f32(1 / (1 - beta1 ** step)),
      f32(1 / (1 - beta2 ** step)),
      f32(gradientScale),
      i32(step),
      pointer(inputs.scale ? backend.f32(inputs.scale, scratch) : 0),
    ]),
  );
  return [];
};

const toBfloat16: CudaKernel<'ToBfloat16'> = ({ x }, _attrs, backend) => [inType(backend, x, 'bf16')];

export const optimizerKernels = { AdamW: adamW, ToBfloat16: toBfloat16 } satisfies CudaKernels;
