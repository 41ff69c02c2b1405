/** Grouped matmuls (kernels/grouped.cuh): how their tiles are cut, and the launch of one. */
import type { CudaBackend } from '../backend.js';
import { GROUPED } from '../kernel_interface.js';
import type { Argument } from '../launch.js';

export const GROUPED_FILE = 'mixture_matmul.cu';
/** Elements of the inner dimension at a time, and of a row of a tile in shared memory. */
const STEP = 64;
/** Rows of a tile that a block of a cluster has brought. */
const HALF = 128;

/** Tiles of the result, and the blocks that make them; the sources are given the same numbers. */
interface Blocking {
  /** Of all blocks of a cluster, one below the other. */
  rows: number;
  columns: number;
  threads: number;
  /** Of shared memory. */
  bytes: number;
  /** Blocks of a multiprocessor. */
  blocks: number;
  /** Blocks that read the same columns of the right operand together. */
  cluster: number;
}

/**
 * Tiles of a block while several GPUs' collectives go on. NCCL holds some multiprocessors then: of lasting blocks, which have an even
 * share of the tiles, those that belong there would begin when all others have ended. The hardware gives a block of few tiles the next
 * multiprocessor that is free, and NCCL's own blocks find one before a whole matmul has ended. Most of what that gains are the gradients
 * of the weights, whose tiles are as long as an expert has tokens.
 */
export const TILES_BESIDE_COLLECTIVES = 2;

/** A block's two operands of `stages` steps, `squares` of 64 × 64 results, and up to 1,024 bytes to begin at a multiple. */
function sharedBytes(rows: number, columns: number, stages: number, squares: number, perStage: number): number {
  return 1024 + stages * ((rows + columns) * STEP * 2 + perStage) + squares * 64 * 64 * 2;
}

export function groupedBlocking(hopper: boolean): Blocking {
  return hopper
    ? { rows: 256, columns: 256, threads: 384, bytes: sharedBytes(128, 256, 4, 2, 16), blocks: 1, cluster: 2 }
    : { rows: 64, columns: 128, threads: 128, bytes: sharedBytes(64, 128, 2, 1, 0), blocks: 2, cluster: 1 };
}

export function groupedMacros(hopper: boolean): string[] {
  const { rows, columns, threads, bytes } = groupedBlocking(hopper);
  const sizes = { ROWS: rows, COLUMNS: columns, THREADS: threads, BYTES: bytes };
  return Object.entries(sizes).map(([name, value]) => `GROUPED_${name}=${value}`);
}

/** What the kernels make of a matmul's result (mixture_matmul.cu). */
const KERNELS = {
  mixture_up: { columnsOfTwo: true, weightGradient: false, alongRows: false },
  mixture_down: { columnsOfTwo: false, weightGradient: false, alongRows: false },
  mixture_down_grad: { columnsOfTwo: false, weightGradient: false, alongRows: true },
  mixture_up_grad: { columnsOfTwo: false, weightGradient: false, alongRows: true },
  mixture_down_weights: { columnsOfTwo: false, weightGradient: true, alongRows: true },
  mixture_up_weights: { columnsOfTwo: false, weightGradient: true, alongRows: true },
} as const;

/** A bfloat16 operand: rows [rows, columns], or of each expert such a matrix. */
export interface GroupedOperand {
  address: number;
  rows: number;
  columns: number;
  experts?: number;
  /** Of tokens' rows, which are gathered; without, rows follow one another as they are sorted. */
  stride?: number;
}

/** Which rows are whose, as mixture.cu has placed them: of each row which token's which choice it is, and where each expert's begin. */
export interface Placed {
  rows: number;
  experts: number;
  active: number;
  order: number;
  offsets: number;
}

type Outputs = Partial<Record<'gates' | 'open' | 'out' | 'wide' | 'hidden' | 'sums', number>>;

/** Tiles of the columns of a result. */
export function tilesAcross(backend: CudaBackend, columns: number): number {
  return Math.ceil(columns / groupedBlocking(backend.hopper).columns);
}

/**
 * One matmul of all experts.
 *
 * @param inner what is summed over, where it is not an expert's rows
 * @param size rows (of a weight's gradient) and columns of the result, of gate alone where there are gate and up
 * @param addresses what the kernel reads and writes besides
 */
export function grouped(
  backend: CudaBackend,
  name: keyof typeof KERNELS,
  { rows, experts, active, order, offsets }: Placed,
  [a, b]: readonly [GroupedOperand, GroupedOperand],
  { inner = 0, height = 0, columns }: { inner?: number; height?: number; columns: number },
  { accumulate = false, ...addresses }: Outputs & { accumulate?: boolean },
): void {
  const { driver, hopper } = backend;
  const blocking = groupedBlocking(hopper);
  const { columnsOfTwo, weightGradient } = KERNELS[name];
  const across = Math.ceil(columns / (columnsOfTwo ? blocking.columns / 2 : blocking.columns));
  // Experts whose last tile is not full are not known here: more blocks than tiles at worst.
  const down = weightGradient
    ? experts * Math.ceil(height / blocking.rows)
    : Math.min(experts, rows) + Math.floor(rows / blocking.rows);
  const absent = { gates: 0, open: 0, out: 0, wide: 0, hidden: 0, sums: 0 };
  const parameters = GROUPED.argument({
    ...{ ...absent, ...addresses, a: a.address, b: b.address, order, offsets },
    ...{ stride: a.stride ?? a.columns, rows, experts, active, inner, height, columns, accumulate: accumulate ? 1 : 0 },
  });
  const maps = hopper ? mapsOf(driver, name, [a, b], addresses.open ?? 0, { rows, columns }) : [];
  if (hopper) maps.push(...resultMaps(driver, name, addresses, { rows, height, columns, experts }, maps[0]!));
  driver.launch(
    backend.function(GROUPED_FILE, name, groupedMacros(hopper)),
    {
      grid: [blocksFor(across * down, blocking, driver.multiprocessors, backend.groupedTiles)],
      block: blocking.threads,
      shared: blocking.bytes,
    },
    [parameters, ...maps],
  );
}

/**
 * Blocks for so many tiles of the result. They find their tiles by how many blocks there are, one tile in as many being a cluster's.
 *
 * @param most tiles of a block; without, there are as many blocks as the GPU has room for at once
 */
export function blocksFor(
  tiles: number,
  { blocks, cluster }: Pick<Blocking, 'blocks' | 'cluster'>,
  multiprocessors: number,
  most?: number,
): number {
  const atOnce = Math.floor((multiprocessors * blocks) / cluster);
  return Math.min(tiles, most === undefined ? atOnce : Math.max(atOnce, Math.ceil(tiles / most))) * cluster;
}

/** What the copy engine is told of the operands and of gate and up: boxes as grouped_hopper.cuh asks for them. */
function mapsOf(
  driver: CudaBackend['driver'],
  name: keyof typeof KERNELS,
  [a, b]: readonly [GroupedOperand, GroupedOperand],
  open: number,
  { rows, columns }: { rows: number; columns: number },
): Argument[] {
  const { weightGradient, alongRows } = KERNELS[name];
  const right = driver.tensorMap(
    b.address,
    [b.columns, b.rows, ...(b.experts ? [b.experts] : [])],
    [STEP, alongRows ? STEP : HALF, ...(b.experts ? [1] : [])],
  );
  const left =
    a.stride === undefined
      ? driver.tensorMap(a.address, [a.columns, a.rows], [STEP, weightGradient ? STEP : HALF])
      : right; // gathered without the copy engine
  return [left, right, open ? driver.tensorMap(open, [columns, 2, rows], [STEP, 1, HALF]) : right];
}

/** A warp's rows of 128 bytes, which it sends at a time; of what is stored the other way round, columns. */
const SENT_ROWS = 16;
const SENT_COLUMNS = 32;

/** What the copy engine is told of up to two results; `none` where it writes none. */
function resultMaps(
  driver: CudaBackend['driver'],
  name: keyof typeof KERNELS,
  { out, wide, hidden, sums }: Outputs,
  { rows, height, columns, experts }: { rows: number; height: number; columns: number; experts: number },
  none: Argument,
): [Argument, Argument] {
  const bf16 = (address: number, halves: number) =>
    driver.tensorMap(address, [columns, halves, rows], [STEP, 1, SENT_ROWS]);
  const f32 = (sizes: number[], box: number[]) => driver.tensorMap(sums!, [...sizes, experts], [...box, 1], 'float32');
  switch (name) {
    case 'mixture_up':
    case 'mixture_down_grad':
      return [bf16(wide!, 2), bf16(hidden!, 1)];
    case 'mixture_down':
    case 'mixture_up_grad':
      return [bf16(out!, 1), none];
    case 'mixture_down_weights':
      return [f32([columns, height], [SENT_COLUMNS, SENT_ROWS]), none];
    case 'mixture_up_weights':
      return [f32([height, columns], [SENT_ROWS, SENT_COLUMNS]), none];
  }
}
