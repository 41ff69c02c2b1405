/** The blocks that the fused attention kernels run as. The sources are given these numbers as macros. */
import { STRETCH_BLOCKS, TILE_ROWS, UNIT_GROUPS } from '../kernel_interface.js';
import { sumsOf } from './fire_table.js';

export interface FlashKernel {
  file: string;
  name: string;
}

export const FORWARD: FlashKernel = { file: 'flash_forward.cu', name: 'flash_forward' };
/** For Hopper and head dimensions up to 64; the two below do its work elsewhere. */
export const BACKWARD: FlashKernel = { file: 'flash_backward.cu', name: 'flash_backward' };
export const BACKWARD_QUERIES: FlashKernel = { file: 'flash_backward_queries.cu', name: 'flash_backward_queries' };
export const BACKWARD_KEYS: FlashKernel = { file: 'flash_backward_keys.cu', name: 'flash_backward_keys' };
/** The backward of far rows, gathered in groups: flash_far.cuh. */
export const FAR_SORT: FlashKernel = { file: 'flash_far_sort.cu', name: 'flash_far_sort' };
export const FAR_QUERIES: FlashKernel = { file: 'flash_far_queries.cu', name: 'flash_far_queries' };
export const FAR_KEYS: FlashKernel = { file: 'flash_far_keys.cu', name: 'flash_far_keys' };
/** Head dimensions that the kernels are compiled for; others are filled up with zeros to the next. */
export const DIMENSIONS = [32, 64, 128] as const;

export function kernelDimension(headDim: number): number {
  return DIMENSIONS.find((dim) => dim >= headDim)!;
}

/**
 * What is left of a stick where its row stops. With block skipping that is where further weights cannot change a bfloat16
 * output, not even by values 256 times as large as those before them: bfloat16 rounds at 2^-9 of a number. Without, it is
 * far below anything that a gradient shows.
 */
export function leastStick(blockSkipping: boolean): number {
  return blockSkipping ? 2 ** -20 : 2 ** -32;
}

/** What a kernel is compiled for. */
export interface FlashVariant {
  mechanism: 'stick-breaking' | 'softmax';
  bias: 'none' | 'alibi' | 'fire' | 'keys';
  dim: number;
  hopper: boolean;
  /** Whether keys are all farther than those attended to before, on a ring of GPUs. */
  farther?: boolean;
  /** Which rows a launch is for, where rows that look far are gathered: see flash_levels.cuh and, backward, flash_far.cuh. Default: all. */
  rows?: 'near' | 'far';
}

/** What the size of a block depends on. */
export type BlockVariant = Pick<FlashVariant, 'mechanism' | 'bias' | 'dim' | 'hopper' | 'rows'>;

export function flashMacros(kernel: FlashKernel, variant: FlashVariant): string[] {
  const { mechanism, bias, dim, farther, rows } = variant;
  const { warpgroups, stages } = blockOf(kernel, variant);
  return [
    `MECHANISM=${mechanism === 'softmax' ? 'SOFTMAX' : 'STICK_BREAKING'}`,
    `FIRE=${bias === 'fire' ? 1 : 0}`,
    `ALIBI=${bias === 'alibi' ? 1 : 0}`,
    `KEY_BIAS=${bias === 'keys' ? 1 : 0}`,
    `HEAD_DIM=${dim}`,
    `BLOCK_WARPGROUPS=${warpgroups}`,
    `BLOCK_STAGES=${stages}`,
    `BLOCK_BYTES=${sharedBytes(kernel, variant)}`,
    ...(farther ? ['FARTHER=1'] : []),
    ...(rows ? [`LEVEL=${rows === 'near' ? 'NEAR_ROWS' : 'FAR_ROWS'}`] : []),
  ];
}

export function threadsOf(kernel: FlashKernel, variant: BlockVariant): number {
  if (kernel === FAR_SORT) return STRETCH_BLOCKS * TILE_ROWS;
  return (warpgroupsOf(kernel, variant) + (kernel === BACKWARD ? 2 : 1)) * 128;
}

export function warpgroupsOf(kernel: FlashKernel, variant: BlockVariant): number {
  return blockOf(kernel, variant).warpgroups;
}

/** Working warpgroups of a block and stages of its pipeline. */
function blockOf(
  kernel: FlashKernel,
  { mechanism, bias, dim, hopper, rows }: BlockVariant,
): { warpgroups: number; stages: number } {
  const small = dim <= 64;
  if (kernel === FORWARD) {
    // Softmax's tiles are so short at head dimension 32 that two small blocks on a multiprocessor are better than a large one.
    if (rows) return { warpgroups: rows === 'near' ? 1 : UNIT_GROUPS, stages: 4 };
    const two = mechanism === 'softmax' && bias === 'none' && dim === 32;
    return { warpgroups: hopper ? (two ? 2 : small ? 4 : 3) : 2, stages: hopper ? 4 : 2 };
  }
  if (kernel === BACKWARD) return { warpgroups: 3, stages: 3 };
  if (kernel === FAR_SORT) return { warpgroups: 1, stages: 1 };
  if (kernel === FAR_QUERIES) return { warpgroups: 3, stages: 9 };
  if (kernel === FAR_KEYS) return { warpgroups: 3, stages: 8 };
  if (kernel === BACKWARD_QUERIES) {
    // With FIRE or biases of keys at head dimension 128 three of them have too few registers.
    const three = small || bias === 'none' || bias === 'alibi';
    return { warpgroups: hopper ? (three ? 3 : 2) : small ? 2 : 1, stages: hopper ? 4 : 2 };
  }
  const warpgroups = hopper ? (small ? 3 : 2) : dim < 64 ? 2 : 1;
  // On Hopper at head dimension 128 a second pair of squares is worth more than a fourth stage.
  return { warpgroups, stages: hopper ? (small ? 4 : 3) : small ? 2 : 1 };
}

/** Squares of weights and logit gradients of a block; see BUFFERS in the sources. */
function squaresOf(kernel: FlashKernel, { warpgroups, stages }: { warpgroups: number; stages: number }): number {
  if (kernel === BACKWARD_KEYS) return (stages === 3 ? 4 : 2) * warpgroups;
  if (kernel === FAR_KEYS) return 2 * warpgroups;
  return kernel === BACKWARD ? 4 * warpgroups : 0;
}

/** Beside tiles, squares and the pipeline: struct Shared of flash_far_queries.cu and flash_far_keys.cu. */
const FAR_QUERIES_BYTES = 3072;
const FAR_KEYS_BYTES = 6400;
/** struct FarShared of flash_levels.cuh. */
const FAR_SHARED_BYTES = 2304;
/** Blocks of far rows, and of near ones, that share a multiprocessor in the forward. */
export const FAR_BLOCKS = 2;
export const NEAR_BLOCKS = 3;

/** Bytes of a tile's sums of dK and dV in float32. */
export function tileSumBytes(dim: number): number {
  return 2 * TILE_ROWS * dim * 4;
}

/** Bytes of shared memory of a block: tiles that stay, tiles in the pipeline, squares of weights, sums, barriers. */
export function sharedBytes(kernel: FlashKernel, variant: BlockVariant, fireUnits = 0): number {
  const block = blockOf(kernel, variant);
  const { warpgroups, stages } = block;
  if (kernel === FAR_SORT) return 0;
  const { dim } = variant;
  const tile = TILE_ROWS * dim * 2;
  const shares = kernel === FAR_QUERIES || kernel === FAR_KEYS;
  const own = shares ? 2 : kernel === FORWARD ? warpgroups : 2 * warpgroups;
  const squares = squaresOf(kernel, block);
  // flash_backward.cu: a tile's sums, and of every row where its stick stops.
  const more = kernel === BACKWARD ? tileSumBytes(dim) + warpgroups * TILE_ROWS * 8 : 0;
  // flash_levels.cuh: the rows of a unit.
  const slots = kernel === FORWARD && variant.rows === 'far' ? FAR_SHARED_BYTES : 0;
  const far = kernel === FAR_QUERIES ? FAR_QUERIES_BYTES : kernel === FAR_KEYS ? FAR_KEYS_BYTES : 0;
  const sums = kernel === BACKWARD_QUERIES && fireUnits > 0 ? 4 * warpgroups * sumsOf(fireUnits) : 0;
  const biases = kernel === BACKWARD_KEYS && variant.bias === 'keys' ? warpgroups * TILE_ROWS : 0;
  const floats = 4 * (sums + biases);
  return 1024 + (own + 2 * stages) * tile + squares * TILE_ROWS * TILE_ROWS * 2 + more + 128 + floats + slots + far;
}
