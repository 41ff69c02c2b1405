/**
 * The residual stream and its gradient in 24 bits: bfloat16 tensors, which every kernel that knows no better reads as they are,
 * with the next eight bits of each number beside them (residual_fp24.cu). Nothing is saved of those bits: a norm's gradient
 * reads its input in bfloat16, as matmuls do theirs.
 */
import type { KernelAttributes, KernelInputs } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { releaseRest } from '../entry_memory.js';
import { vectorBlocks } from '../grids.js';
import { THREADS } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { matrixOf } from '../matrix.js';
import { TYPE_CODE } from '../storage.js';
import type { ResidualStream } from './norm_shape.js';

export const FP24_FILE = 'residual_fp24.cu';

/** A new tensor in 24 bits, whose memory holds nothing yet. */
function makeFp24(backend: CudaBackend, shape: number[]): TensorInfo {
  const tensor = backend.make(shape, 'bf16');
  backend.stored(tensor).rest = backend.driver.allocate(util.sizeFromShape(shape));
  return tensor;
}

/** The bfloat16 numbers and the further bits, null where there are none. */
export function wide(backend: CudaBackend, tensor: TensorInfo | undefined) {
  if (!tensor) return [pointer(0), pointer(0)];
  const address = backend.bf16(tensor);
  return [pointer(address), pointer(backend.stored(tensor).rest ?? 0)];
}

/** Whether the tensor has bits beside its bfloat16 numbers. */
export function isFp24(backend: CudaBackend, { dataId }: TensorInfo): boolean {
  return backend.stored({ dataId }).rest !== undefined;
}

/** The stream in 24 bits, for the norms along it. */
export const FP24: ResidualStream = { file: FP24_FILE, make: makeFp24, pointers: wide, canBeginEarly: false };

/** x + multiplier·branch. */
export function addFp24(
  backend: CudaBackend,
  { x, branch }: KernelInputs<'Residual'>,
  { multiplier, consumed }: KernelAttributes<'Residual'>,
): TensorInfo {
  const y = makeFp24(backend, x.shape);
  const n = util.sizeFromShape(x.shape);
  backend.launch(FP24_FILE, 'residual', { grid: [vectorBlocks(n)], block: THREADS }, [
    ...[y, x, branch].flatMap((one) => wide(backend, one)),
    ...[f32(multiplier), i64(n)],
  ]);
  if (consumed) releaseRest(backend.driver, backend.stored(x));
  return y;
}

export function embeddingFp24(backend: CudaBackend, { tokens, weight }: KernelInputs<'Embedding'>): TensorInfo {
  const columns = weight.shape[1]!;
  const y = makeFp24(backend, [...tokens.shape, columns]);
  const { address, stride } = matrixOf(backend, weight);
  const n = util.sizeFromShape(tokens.shape);
  backend.launch(FP24_FILE, 'embedding', { grid: [n], block: THREADS }, [
    ...wide(backend, y),
    pointer(backend.address(tokens)),
    pointer(address),
    i32(TYPE_CODE[backend.stored(weight).type]),
    i64(stride),
    i32(columns),
  ]);
  return y;
}
