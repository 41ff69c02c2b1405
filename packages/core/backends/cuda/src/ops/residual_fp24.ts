/**
 * The residual stream and its gradient in 24 bits: bfloat16 tensors, which every kernel that knows no better reads as they are,
 * with the next eight bits of each number beside them (residual_fp24.cu). Nothing is saved of those bits: a norm's gradient
 * reads its input in bfloat16, as matmuls do theirs.
 */
import type { KernelAttributes, KernelInputs, KernelOutputs } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { f32, i32, i64, pointer } from '../driver.js';
import { vectorBlocks } from '../grids.js';
import { THREADS } from '../kernel_interface.js';
import { matrixOf } from '../matrix.js';
import { TYPE_CODE } from '../storage.js';
import { eightArguments, eightBeside, gradGrid, normShape } from './norm_shape.js';
import { sumPartials } from './reduce.js';

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

function passed(backend: CudaBackend, x: TensorInfo, consumed: boolean | undefined): void {
  if (consumed) backend.releaseRest(backend.stored(x));
}

/** RMSNorm of x, or of x + multiplier·branch, which is then the sum. */
export function normaliseFp24(
  backend: CudaBackend,
  { x, weight, branch }: KernelInputs<'RMSNorm'> & { branch?: TensorInfo },
  {
    epsilon,
    multiplier = 1,
    readBy,
    consumed,
  }: KernelAttributes<'RMSNorm'> & Partial<KernelAttributes<'ResidualRMSNorm'>>,
) {
  const shape = normShape(x);
  const { rows, columns, groups, threads } = shape;
  const sum = branch && makeFp24(backend, x.shape);
  const [y, inverseRms] = [backend.make(x.shape, 'bf16'), backend.make([rows], 'f32')];
  const eight = eightBeside(backend, y, shape, readBy);
  backend.withScratch((scratch) =>
    backend.launch(FP24_FILE, `rms_norm${groups}`, { grid: [rows], block: threads }, [
      pointer(backend.address(y)),
      ...wide(backend, sum),
      pointer(backend.address(inverseRms)),
      ...wide(backend, x),
      pointer(branch ? backend.bf16(branch) : 0),
      pointer(backend.f32(weight, scratch)),
      f32(multiplier),
      i32(columns),
      f32(epsilon),
      ...eightArguments(eight),
    ]),
  );
  passed(backend, x, consumed);
  return { sum, y, inverseRms };
}

/** RMSNormGrad and ResidualRMSNormGrad: dBranch where a multiplier sets it apart from dx. */
export function normaliseGradFp24(
  backend: CudaBackend,
  { x, weight, inverseRms, dy, dSum }: KernelInputs<'RMSNormGrad'> & { dSum?: TensorInfo },
  { multiplier = 1, readBy }: Partial<KernelAttributes<'ResidualRMSNormGrad'>> = {},
): KernelOutputs<'ResidualRMSNormGrad'> {
  const shape = normShape(x);
  const { rows, columns, groups, threads } = shape;
  const grid = gradGrid(backend, shape);
  const [dx, dWeight] = [makeFp24(backend, x.shape), backend.make([columns], 'f32')];
  const dBranch = multiplier === 1 ? undefined : backend.make(x.shape, 'bf16');
  const eight = eightBeside(backend, dBranch ?? dx, shape, readBy);
  backend.withScratch((scratch) => {
    const partial = scratch.allocate(grid * columns * 4);
    backend.launch(FP24_FILE, `rms_norm_grad${eight ? '_fp8_' : ''}${groups}`, { grid: [grid], block: threads }, [
      ...wide(backend, dx),
      pointer(dBranch ? backend.address(dBranch) : 0),
      pointer(partial),
      pointer(backend.bf16(x)),
      pointer(backend.f32(weight, scratch)),
      pointer(backend.f32(inverseRms, scratch)),
      pointer(backend.bf16(dy)),
      ...wide(backend, dSum),
      f32(multiplier),
      i32(rows),
      i32(columns),
      ...(eight ? eightArguments(eight) : []),
    ]);
    sumPartials(backend, backend.address(dWeight), partial, grid, columns);
  });
  return dBranch ? [dx, dWeight, dBranch] : [dx, dWeight];
}

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
  passed(backend, x, consumed);
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
