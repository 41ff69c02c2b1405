/**
 * What host code and kernels must agree on: structs and sizes of blocks. The sources are given the sizes as macros, and
 * compile.test.ts compares their structs with these.
 */
import { Struct } from './struct.js';

/** flash.cuh: what the fused attention kernels are told. */
export const ATTENTION = new Struct('Attention', {
  q: 'pointer',
  k: 'pointer',
  v: 'pointer',
  output: 'pointer',
  dOutput: 'pointer',
  out: 'pointer',
  dq: 'pointer',
  dk: 'pointer',
  dv: 'pointer',
  rowOutput: 'pointer',
  dRemainder: 'pointer',
  saved: 'pointer',
  carries: 'pointer',
  items: 'pointer',
  carryBase: 'pointer',
  slopes: 'pointer',
  tokens: 'i64',
  heads: 'i32',
  kvHeads: 'i32',
  itemCount: 'i32',
  sectionHeads: 'i32',
  firstHead: 'i32',
  headCount: 'i32',
  rowBlocks: 'i32',
  attendCurrent: 'i32',
  window: 'i32',
  skip: 'i32',
  scale: 'f32',
  exhausted: 'f32',
  fireTable: 'pointer',
  fireSums: 'pointer',
  fireUnits: 'i32',
  qStride: 'i32',
  kvStride: 'i32',
  dqStride: 'i32',
  dkvStride: 'i32',
  keyTokens: 'i64',
  turnQ: 'pointer',
  turnK: 'pointer',
  keyBias: 'pointer',
  dKeyBias: 'pointer',
  nearer: 'pointer',
  kept: 'pointer',
  stretches: 'pointer',
  count: 'pointer',
  nextCount: 'pointer',
  unit: 'pointer',
  state: 'pointer',
  parts: 'pointer',
  partsDone: 'pointer',
  stretchCount: 'i32',
  stretchBlocks: 'i32',
  level: 'i32',
  walk: 'i32',
  mostParts: 'i32',
  partTiles: 'i32',
  nearStop: 'pointer',
  farGroups: 'pointer',
  farSlots: 'pointer',
  farCounts: 'pointer',
  farGroupLists: 'pointer',
  farTileLists: 'pointer',
  farTiles: 'pointer',
  farEnds: 'pointer',
  farRoom: 'i64',
  farCost: 'f32',
});

/** flash.cuh: a run of queries, or of keys, that one block works on. */
export const QUERY_ITEM = new Struct('QueryItem', {
  q0: 'i32',
  rows: 'i32',
  k0: 'i32',
  keys: 'i32',
  first: 'i32',
  rowBlock: 'i32',
  stretch: 'i32',
  unused: 'i32',
});
export const KEY_ITEM = new Struct('KeyItem', {
  k0: 'i32',
  keys: 'i32',
  position: 'i32',
  q0: 'i32',
  queries: 'i32',
  offset: 'i32',
  rowBlock: 'i32',
  unused: 'i32',
});

/** plain_rows.cuh: a block of logits. */
export const LOGIT_BLOCK = new Struct('LogitBlock', {
  rows: 'i32',
  stride: 'i32',
  first: 'i32',
  keys: 'i32',
  heads: 'i32',
  group: 'i32',
  g: 'i32',
  token: 'i32',
  scale: 'f32',
});

/** fire_network.cuh and fire_table.cuh. */
export const FIRE_NETWORK = new Struct('FireNetwork', {
  w1: 'pointer',
  b1: 'pointer',
  w2: 'pointer',
  b2: 'pointer',
  c: 'pointer',
  threshold: 'pointer',
  initialThreshold: 'f32',
  width: 'i32',
});
export const FIRE_TABLE = new Struct('FireTable', { data: 'pointer', units: 'i32', heads: 'i32' });

/** adamw.cu: a parameter with what belongs to it. */
export const PARAMETER = new Struct('Parameter', {
  weight: 'pointer',
  gradient: 'pointer',
  first: 'pointer',
  second: 'pointer',
  copy: 'pointer',
  size: 'i64',
  firstBlock: 'i64',
  decay: 'f32',
  gradientType: 'i32',
});

/** reduce.cu: one tensor of a list. */
export const SPAN = new Struct('TensorSpan', { data: 'pointer', size: 'i64', type: 'i64' });

/** elementwise.cu: sizes and strides of a gathering copy, outermost first. */
export const MAX_RANK = 6;
export const LAYOUT = new Struct('Layout', { size: ['i64', MAX_RANK], stride: ['i64', MAX_RANK] });

/** decode.cu: what the kernels of a step of generation are told. */
export const DECODE = new Struct('Decode', {
  q: 'pointer',
  k: 'pointer',
  v: 'pointer',
  keyPages: 'pointer',
  valuePages: 'pointer',
  lengths: 'pointer',
  table: 'pointer',
  angles: 'pointer',
  slopes: 'pointer',
  output: 'pointer',
  remainder: 'pointer',
  keysRead: 'pointer',
  parts: 'pointer',
  done: 'pointer',
  states: 'pointer',
  positions: 'i64',
  qStride: 'i32',
  kStride: 'i32',
  vStride: 'i32',
  heads: 'i32',
  kvHeads: 'i32',
  tableWidth: 'i32',
  window: 'i32',
  attendCurrent: 'i32',
  near: 'i32',
  run: 'i32',
  runs: 'i32',
  scale: 'f32',
  exhausted: 'f32',
});

/** sample.cu: how a row's next token is drawn. */
export const SAMPLE_ROW = new Struct('SampleRow', {
  inverseTemperature: 'f32',
  topP: 'f32',
  minP: 'f32',
  topK: 'i32',
  uniform: 'i32',
});

/** grouped.cuh: one matmul of a mixture's experts. */
export const GROUPED = new Struct('Grouped', {
  a: 'pointer',
  b: 'pointer',
  offsets: 'pointer',
  order: 'pointer',
  gates: 'pointer',
  open: 'pointer',
  out: 'pointer',
  wide: 'pointer',
  hidden: 'pointer',
  sums: 'pointer',
  stride: 'i64',
  rows: 'i64',
  experts: 'i32',
  inner: 'i32',
  height: 'i32',
  columns: 'i32',
  active: 'i32',
  accumulate: 'i32',
});

/** Elements that a thread moves at once: load8, store8 of common.cuh. */
export const VECTOR = 8;
/** sums.cu: elements that a thread adds at once. */
export const SUM_VECTOR = 4;
/** Threads of a block, where nothing asks for another number. */
export const THREADS = 256;
/** norm.cu: threads of a block at most. */
export const NORM_THREADS = 512;
/** fp8.cu: threads of a block that has a row, at most; and the side of a block's square of a weight. */
export const ROW_THREADS = 512;
export const WEIGHT_SIDE = 128;
/** transformer.cu: heads that a thread of the rotary embedding turns. */
export const ROTARY_HEADS = 4;
/** adamw.cu and reduce.cu: elements of a tensor that a block works on. */
export const ADAMW_ELEMENTS = 16_384;
export const SPAN_ELEMENTS = 65_536;
/** reduce.cu: columns, and lanes along rows, of a block that adds partial sums. */
export const PARTIALS_SIDE = 32;
/** Rows of a block of the fused attention kernels, and keys of a tile. */
export const TILE_ROWS = 64;
/** flash_levels.cuh: 64-row blocks of a stretch. */
export const STRETCH_BLOCKS = 16;
/** flash_far.cuh: classes of work by length. */
export const FAR_CLASSES = 32;
/** flash_levels.cuh: groups of 64 far rows that share a block's tiles. */
export const UNIT_GROUPS = 2;
/** mixture.cu and grouped.cuh: experts of a layer at most. mixture.cu: tokens of a block. */
export const MOST_EXPERTS = 1024;
export const ROUTE_TOKENS = 8;
export const MIXTURE_TOKENS = 64;
/** FIRE: units of its network at most, and sums that are kept for a segment or a knot of its table. */
export const MOST_UNITS = 128;
export const FIRE_SUMS = 4;

const FLASH = { TILE_ROWS, FIRE_SUMS, FAR_CLASSES };
const FLASH_FAR = { ...FLASH, STRETCH_BLOCKS };
const SIZES: Record<string, Record<string, number>> = {
  'adamw.cu': { ADAMW_ELEMENTS },
  'fire.cu': { MOST_UNITS },
  'fire_table.cu': { MOST_UNITS, FIRE_SUMS },
  'flash_forward.cu': FLASH,
  'flash_backward.cu': FLASH,
  'flash_backward_queries.cu': FLASH,
  'flash_backward_keys.cu': FLASH,
  'flash_far_sort.cu': FLASH_FAR,
  'flash_far_queries.cu': FLASH_FAR,
  'flash_far_keys.cu': FLASH_FAR,
  'fp8.cu': { ROW_THREADS, WEIGHT_SIDE },
  'mixture.cu': { MOST_EXPERTS, ROUTE_TOKENS, MIXTURE_TOKENS },
  'mixture_matmul.cu': { MOST_EXPERTS, TILE_ROWS },
  'norm.cu': { NORM_THREADS, THREADS },
  'sums.cu': { SUM_VECTOR },
  'residual_fp24.cu': { NORM_THREADS, THREADS },
  'reduce.cu': { SPAN_ELEMENTS, PARTIALS_SIDE, THREADS },
  'transformer.cu': { ROTARY_HEADS },
};

/** The macros that a source is compiled with, whatever else it is given. */
export function sizesOf(file: string): string[] {
  return Object.entries({ VECTOR, ...SIZES[file] }).map(([name, value]) => `${name}=${value}`);
}
