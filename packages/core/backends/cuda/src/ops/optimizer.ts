/** AdamW over all parameters in one launch, from a table of addresses. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { f32, i32, pointer } from '../driver.js';
import { type Entry, TYPE_CODE } from '../storage.js';
import type { CudaKernel, CudaKernels } from './define.js';

const ELEMENTS_PER_BLOCK = 16_384;
/** sizeof(struct Parameter) in adamw.cu. */
const ROW_BYTES = 64;

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
  const count = weightDecays.length;
  const table = new DataView(new ArrayBuffer(count * ROW_BYTES));
  let blocks = 0;
  for (let p = 0; p < count; p++) {
    const gradient = backend.entry(inputs[`grad${p}`]!);
    const [weight, first, second] = (['param', 'm', 'v'] as const).map((name) =>
      master(backend, inputs[`${name}${p}`]!),
    );
    const row = [
      weight!.address,
      gradient.address,
      first!.address,
      second!.address,
      weight!.copy ?? 0,
      weight!.size,
      blocks,
    ];
    for (const [i, value] of row.entries()) table.setBigInt64(p * ROW_BYTES + i * 8, BigInt(value), true);
    table.setFloat32(p * ROW_BYTES + 56, weightDecays[p]!, true);
    table.setInt32(p * ROW_BYTES + 60, TYPE_CODE[gradient.type], true);
    blocks += Math.ceil(weight!.size / ELEMENTS_PER_BLOCK);
  }
  backend.withScratch((scratch) =>
    backend.launch('adamw.cu', 'adamw', { grid: [blocks], block: 256 }, [
      pointer(scratch.upload(table)),
      i32(count),
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
