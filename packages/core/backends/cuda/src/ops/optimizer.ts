/** AdamW over all parameters in one launch, from a table of addresses. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { f32, i32, pointer } from '../driver.js';
import { ADAMW_ELEMENTS, PARAMETER, THREADS } from '../kernel_interface.js';
import { type Entry, TYPE_CODE } from '../storage.js';
import type { CudaKernel, CudaKernels } from './define.js';

/** Master weights and moments are float32, whatever computed their first values. */
function master(backend: CudaBackend, tensor: TensorInfo): Entry {
  const entry = backend.entry(tensor);
  if (entry.type !== 'bf16') return entry;
  const wide = backend.cast(tensor, 'f32', 'float32');
  const { address } = backend.entry(wide);
  backend.entry(wide).address = entry.address;
  entry.copy = undefined;
  entry.address = address;
  entry.type = 'f32';
  backend.disposeData(wide.dataId);
  return entry;
}

const adamW: CudaKernel<'AdamW'> = (
  inputs,
  { learningRate, beta1, beta2, epsilon, step, gradientScale, weightDecays },
  backend,
) => {
  let blocks = 0;
  const table = weightDecays.map((decay, p) => {
    const gradient = backend.entry(inputs[`grad${p}`]!);
    const weight = master(backend, inputs[`param${p}`]!);
    const first = master(backend, inputs[`m${p}`]!);
    const second = master(backend, inputs[`v${p}`]!);
    const firstBlock = blocks;
    blocks += Math.ceil(weight.size / ADAMW_ELEMENTS);
    return {
      weight: weight.address,
      gradient: gradient.address,
      first: first.address,
      second: second.address,
      copy: weight.copy ?? 0,
      size: weight.size,
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
