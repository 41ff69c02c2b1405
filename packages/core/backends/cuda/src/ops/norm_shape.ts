/** How the norms' kernels take rows: threads, vectors a thread, blocks, and what is written in eight bits beside them. */
import { UserError } from '@stickbreaking/base';
import type { MatmulPrecision } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { attachEight } from '../fp8.js';
import { NORM_THREADS, VECTOR } from '../kernel_interface.js';
import { type Argument, i32, pointer } from '../launch.js';
import type { Eight } from '../storage.js';

/** How the residual stream and its gradient lie in memory: norm_rows.cuh is compiled for each kind in a file of its own. */
export interface ResidualStream {
  file: string;
  /** A new tensor, whose memory holds nothing yet. */
  make(backend: CudaBackend, shape: number[]): TensorInfo;
  /** A tensor as arguments of the kernels; null where there is none. */
  pointers(backend: CudaBackend, tensor: TensorInfo | undefined): Argument[];
  /** Whether its norms know how to begin before the kernel in front of them has ended. */
  canBeginEarly: boolean;
}

export interface NormShape {
  rows: number;
  columns: number;
  /** Vectors of columns a thread: the kernels are compiled for these. */
  groups: 1 | 4;
  threads: number;
}

export function normShape(x: TensorInfo): NormShape {
  const columns = x.shape[x.shape.length - 1]!;
  const rows = util.sizeFromShape(x.shape) / Math.max(1, columns);
  const groups = columns <= NORM_THREADS * VECTOR ? 1 : 4;
  const threads = Math.max(1, Math.ceil(columns / VECTOR / groups / 32)) * 32;
  if (threads > NORM_THREADS)
    throw new UserError(`RMSNorm on cuda: rows of ${columns}; expected at most ${NORM_THREADS * VECTOR * 4}.`);
  return { rows, columns, groups, threads };
}

/** Memory for rows in eight bits beside a tensor whose op was told of such readers; the kernels need whole vectors. */
export function eightBeside(
  backend: CudaBackend,
  tensor: TensorInfo,
  { rows, columns }: NormShape,
  readBy: MatmulPrecision | undefined,
): Eight | undefined {
  return readBy === 'fp8' && columns % VECTOR === 0 ? attachEight(backend, tensor, rows, columns) : undefined;
}

export const eightArguments = (eight: Eight | undefined) => [
  pointer(eight?.address ?? 0),
  pointer(eight?.scales ?? 0),
  i32(eight?.width ?? 0),
];

/** Blocks of a gradient: as many as are at work at once, by the registers that the kernels allow a thread. */
export function gradGrid(backend: CudaBackend, { rows, groups, threads }: NormShape): number {
  const perMultiprocessor = Math.floor(((groups === 1 ? 2 : 1) * NORM_THREADS) / threads);
  return Math.min(rows, backend.driver.multiprocessors * Math.min(perMultiprocessor, 8));
}
