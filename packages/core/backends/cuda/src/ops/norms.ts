/** Norms over rows, alone and with the residual connection before them, and over heads. */
import type { KernelAttributes, KernelInputs, KernelOutputs, MatmulPrecision } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { releaseRest } from '../entry_memory.js';
import { vectorBlocks, warpBlocks } from '../grids.js';
import { THREADS, VECTOR } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { operandOf } from '../matrix.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { eightArguments, eightBeside, gradGrid, normShape, type ResidualStream } from './norm_shape.js';
import { sumPartials } from './reduce.js';
import { addFp24, FP24 } from './residual_fp24.js';
import { MOST_ROWS } from './rowwise.js';

/** Parts into which a sum over tokens is split before the fixed-order addition. */
const PARTS = 128;

const BFLOAT16: ResidualStream = {
  file: 'norm.cu',
  make: (backend, shape) => backend.make(shape, 'bf16'),
  pointers: (backend, tensor) => [pointer(tensor ? backend.bf16(tensor) : 0)],
  canBeginEarly: true,
};

const streamOf = (type: KernelAttributes<'Residual'>['residualType']) => (type === 'fp24' ? FP24 : BFLOAT16);

/** RMSNorm of x, or of x + multiplier·branch, which is then the sum. */
function normalise(
  backend: CudaBackend,
  { x, weight, branch }: KernelInputs<'RMSNorm'> & { branch?: TensorInfo },
  {
    epsilon,
    multiplier = 1,
    readBy,
    residualType,
    consumed,
  }: KernelAttributes<'RMSNorm'> & Partial<KernelAttributes<'ResidualRMSNorm'>>,
) {
  const { file, make, pointers, canBeginEarly } = streamOf(residualType);
  const shape = normShape(x);
  const { rows, columns, groups, threads } = shape;
  const sum = branch && make(backend, x.shape);
  const [y, inverseRms] = [backend.make(x.shape, 'bf16'), backend.make([rows], 'f32')];
  const eight = eightBeside(backend, y, shape, readBy);
  const early = canBeginEarly && rows <= MOST_ROWS;
  backend.withScratch((scratch) =>
    backend.launch(file, `rms_norm${groups}`, { grid: [rows], block: threads, early }, [
      pointer(backend.address(y)),
      ...pointers(backend, sum),
      pointer(backend.address(inverseRms)),
      ...pointers(backend, x),
      pointer(branch ? backend.bf16(branch) : 0),
      pointer(backend.f32(weight, scratch)),
      f32(multiplier),
      i32(columns),
      f32(epsilon),
      ...eightArguments(eight),
    ]),
  );
  if (consumed) releaseRest(backend.driver, backend.stored(x));
  return { sum, y, inverseRms };
}

/** Columns of rows that a few lanes of a warp take, each a vector of them. */
const SHORT_ROW = 32 * VECTOR;

interface ShortShape {
  rows: number;
  columns: number;
  /** Threads of a row. */
  lanes: number;
  rowsOfBlock: number;
}

/** How norm.cu's kernels for short rows take x; undefined where it is for the others. */
function shortShape(x: TensorInfo, readBy?: MatmulPrecision): ShortShape | undefined {
  const { rows, columns } = normShape(x);
  if (columns > SHORT_ROW || columns === 0 || columns % VECTOR !== 0 || rows === 0 || readBy === 'fp8')
    return undefined;
  const lanes = 2 ** Math.ceil(Math.log2(columns / VECTOR));
  return { rows, columns, lanes, rowsOfBlock: THREADS / lanes };
}

/**
 * Address, elements from one run of rows to the next, and rows of a run: heads of a query that lies beside keys and values are
 * read where they are.
 */
function runsOf(backend: CudaBackend, x: TensorInfo, { columns }: ShortShape) {
  const { rows } = backend.stored(x);
  const isRun = rows && rows.columns % columns === 0 && rows.stride % VECTOR === 0;
  const { address, stride } = operandOf(backend, x, isRun ? rows.columns : columns);
  return [pointer(address), i64(stride), i32(isRun ? rows.columns / columns : 1)];
}

/** Blocks of which all are at work at once, by the registers that norm.cu allows a thread. */
const shortGrid = (backend: CudaBackend, { rows, rowsOfBlock }: ShortShape) =>
  Math.min(Math.ceil(rows / rowsOfBlock), backend.driver.multiprocessors * 4);

function normaliseShort(
  backend: CudaBackend,
  { x, weight }: KernelInputs<'RMSNorm'>,
  epsilon: number,
  shape: ShortShape,
): KernelOutputs<'RMSNorm'> {
  const { rows, columns, lanes } = shape;
  const [y, inverseRms] = [backend.make(x.shape, 'bf16'), backend.make([rows], 'f32')];
  const grid = [shortGrid(backend, shape)] as const;
  backend.withScratch((scratch) =>
    backend.launch('norm.cu', 'rms_norm_short', { grid, block: THREADS, early: x.shape[0]! <= MOST_ROWS }, [
      pointer(backend.address(y)),
      pointer(backend.address(inverseRms)),
      ...runsOf(backend, x, shape),
      pointer(backend.f32(weight, scratch)),
      ...[rows, columns, lanes].map(i32),
      f32(epsilon),
    ]),
  );
  return [y, inverseRms];
}

function normaliseShortGrad(
  backend: CudaBackend,
  { x, weight, inverseRms, dy }: KernelInputs<'RMSNormGrad'>,
  shape: ShortShape,
): KernelOutputs<'RMSNormGrad'> {
  const { rows, columns, lanes } = shape;
  const grid = shortGrid(backend, shape);
  const [dx, dWeight] = [backend.make(x.shape, 'bf16'), backend.make([columns], 'f32')];
  backend.withScratch((scratch) => {
    const partial = scratch.allocate(grid * columns * 4);
    backend.launch('norm.cu', 'rms_norm_grad_short', { grid: [grid], block: THREADS }, [
      pointer(backend.address(dx)),
      pointer(partial),
      ...runsOf(backend, x, shape),
      pointer(backend.f32(weight, scratch)),
      pointer(backend.f32(inverseRms, scratch)),
      ...runsOf(backend, dy, shape),
      ...[rows, columns, lanes].map(i32),
    ]);
    sumPartials(backend, backend.address(dWeight), partial, grid, columns);
  });
  return [dx, dWeight];
}

const rmsNorm: CudaKernel<'RMSNorm'> = (inputs, attrs, backend) => {
  const short = attrs.residualType === 'fp24' ? undefined : shortShape(inputs.x, attrs.readBy);
  if (short) return normaliseShort(backend, inputs, attrs.epsilon, short);
  const { y, inverseRms } = normalise(backend, inputs, attrs);
  return [y, inverseRms];
};

const residualRmsNorm: CudaKernel<'ResidualRMSNorm'> = (inputs, attrs, backend) => {
  const { sum, y, inverseRms } = normalise(backend, inputs, attrs);
  return [sum!, y, inverseRms];
};

/** RMSNormGrad and ResidualRMSNormGrad: dBranch where a multiplier sets it apart from dx. */
function normaliseGrad(
  backend: CudaBackend,
  { x, weight, inverseRms, dy, dSum }: KernelInputs<'RMSNormGrad'> & { dSum?: TensorInfo },
  { multiplier = 1, readBy, residualType }: Partial<KernelAttributes<'ResidualRMSNormGrad'>>,
): KernelOutputs<'ResidualRMSNormGrad'> {
  const { file, make, pointers } = streamOf(residualType);
  const shape = normShape(x);
  const { rows, columns, groups, threads } = shape;
  const grid = gradGrid(backend, shape);
  const [dx, dWeight] = [make(backend, x.shape), backend.make([columns], 'f32')];
  const dBranch = multiplier === 1 ? undefined : backend.make(x.shape, 'bf16');
  const eight = eightBeside(backend, dBranch ?? dx, shape, readBy);
  backend.withScratch((scratch) => {
    const partial = scratch.allocate(grid * columns * 4);
    backend.launch(file, `rms_norm_grad${eight ? '_fp8_' : ''}${groups}`, { grid: [grid], block: threads }, [
      ...pointers(backend, dx),
      pointer(dBranch ? backend.address(dBranch) : 0),
      pointer(partial),
      pointer(backend.bf16(x)),
      pointer(backend.f32(weight, scratch)),
      pointer(backend.f32(inverseRms, scratch)),
      pointer(backend.bf16(dy)),
      ...pointers(backend, dSum),
      f32(multiplier),
      i32(rows),
      i32(columns),
      ...(eight ? eightArguments(eight) : []),
    ]);
    sumPartials(backend, backend.address(dWeight), partial, grid, columns);
  });
  return dBranch ? [dx, dWeight, dBranch] : [dx, dWeight];
}

const rmsNormGrad: CudaKernel<'RMSNormGrad'> = (inputs, attrs, backend) => {
  const short = attrs.residualType === 'fp24' ? undefined : shortShape(inputs.x);
  if (short) return normaliseShortGrad(backend, inputs, short);
  const [dx, dWeight] = normaliseGrad(backend, inputs, { residualType: attrs.residualType });
  return [dx, dWeight];
};

const residualRmsNormGrad: CudaKernel<'ResidualRMSNormGrad'> = ({ sum, ...inputs }, attrs, backend) =>
  normaliseGrad(backend, { x: sum, ...inputs }, attrs);

/** x + multiplier·branch; without x the gradient of the branch. */
function addBranch(backend: CudaBackend, x: TensorInfo | undefined, branch: TensorInfo, multiplier: number) {
  const y = backend.make(branch.shape, 'bf16');
  const n = util.sizeFromShape(branch.shape);
  const inputs = [pointer(x ? backend.bf16(x) : 0), pointer(backend.bf16(branch))];
  const args = [pointer(backend.address(y)), ...inputs, f32(multiplier), i64(n)];
  backend.launch('elementwise.cu', 'residual', { grid: [vectorBlocks(n)], block: THREADS }, args);
  return y;
}

const headNorm: CudaKernel<'HeadNorm'> = ({ x, weight, bias }, { epsilon }, backend) => {
  const [tokens, heads, dim] = x.shape as [number, number, number];
  const y = backend.make(x.shape, 'bf16');
  const [mean, inverseStd] = [backend.make([tokens, heads], 'f32'), backend.make([tokens, heads], 'f32')];
  backend.withScratch((scratch) =>
    backend.launch('norm.cu', 'head_norm', { grid: [warpBlocks(tokens * heads)], block: THREADS }, [
      pointer(backend.address(y)),
      pointer(backend.address(mean)),
      pointer(backend.address(inverseStd)),
      pointer(backend.bf16(x)),
      pointer(backend.f32(weight, scratch)),
      pointer(backend.f32(bias, scratch)),
      i64(tokens * heads),
      i32(heads),
      i32(dim),
      f32(epsilon),
    ]),
  );
  return [y, mean, inverseStd];
};

const headNormGrad: CudaKernel<'HeadNormGrad'> = (inputs, _attrs, backend) => {
  const { x } = inputs;
  const [tokens, heads, dim] = x.shape as [number, number, number];
  const columns = heads * dim;
  const dx = backend.make(x.shape, 'bf16');
  const [dWeight, dBias] = [backend.make([heads, dim], 'f32'), backend.make([heads, dim], 'f32')];
  backend.withScratch((scratch) => {
    const mean = pointer(backend.f32(inputs.mean, scratch));
    const inverseStd = pointer(backend.f32(inputs.inverseStd, scratch));
    const [xs, dy] = [pointer(backend.bf16(x)), pointer(backend.bf16(inputs.dy))];
    const weight = pointer(backend.f32(inputs.weight, scratch));
    const grid = [warpBlocks(tokens * heads)] as const;
    const sizes = [i64(tokens * heads), i32(heads), i32(dim)];
    backend.launch('norm.cu', 'head_norm_dx', { grid, block: THREADS }, [
      pointer(backend.address(dx)),
      xs,
      weight,
      mean,
      inverseStd,
      dy,
      ...sizes,
    ]);
    const [pw, pb] = [scratch.allocate(PARTS * columns * 4), scratch.allocate(PARTS * columns * 4)];
    backend.launch('norm.cu', 'head_norm_dw', { grid: [Math.ceil(columns / 128), PARTS], block: 128 }, [
      pointer(pw),
      pointer(pb),
      xs,
      mean,
      inverseStd,
      dy,
      i64(tokens),
      i32(heads),
      i32(dim),
    ]);
    sumPartials(backend, backend.address(dWeight), pw, PARTS, columns);
    sumPartials(backend, backend.address(dBias), pb, PARTS, columns);
  });
  return [dx, dWeight, dBias];
};

export const normKernels = {
  RMSNorm: rmsNorm,
  RMSNormGrad: rmsNormGrad,
  ResidualRMSNorm: residualRmsNorm,
  ResidualRMSNormGrad: residualRmsNormGrad,
  Residual: (inputs, attrs, backend) =>
    attrs.residualType === 'fp24'
      ? [addFp24(backend, inputs, attrs)]
      : [addBranch(backend, inputs.x, inputs.branch, attrs.multiplier)],
  ResidualGrad: ({ dy }, { multiplier }, backend) => [addBranch(backend, undefined, dy, multiplier)],
  HeadNorm: headNorm,
  HeadNormGrad: headNormGrad,
} satisfies CudaKernels;
