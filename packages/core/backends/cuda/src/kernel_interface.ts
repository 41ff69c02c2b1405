/**
 * What host code and kernels must agree on: structs, numbers that stand for types and operations, sizes of blocks. Sizes
 * are given to the sources as macros; the rest is asserted wherever a source is compiled, with a GPU or without.
 */
import { BINARY, UNARY } from './operations.js';
import { TYPE_CODE } from './storage.js';
import { ASSERTION_PRELUDE, Struct } from './struct.js';

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
});

/** flash.cuh: a run of queries, or of keys, that one block works on. */
export const QUERY_ITEM = new Struct('QueryItem', {
  q0: 'i32',
  rows: 'i32',
  k0: 'i32',
  keys: 'i32',
  first: 'i32',
  rowBlock: 'i32',
  unused0: 'i32',
  unused1: 'i32',
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

const STRUCTS = [ATTENTION, QUERY_ITEM, KEY_ITEM, LOGIT_BLOCK, FIRE_NETWORK, FIRE_TABLE, PARAMETER, SPAN, LAYOUT];

/** Numbers by the words that open their declaration in the sources. */
const NUMBERS: Record<string, Record<string, number>> = {
  'enum StorageType {': { F32: TYPE_CODE.f32, BF16: TYPE_CODE.bf16, I32: TYPE_CODE.i32, U8: TYPE_CODE.u8 },
  'namespace binary_op {': numbered('binary_op', BINARY),
  'namespace unary_op {': numbered('unary_op', UNARY),
};

function numbered(space: string, names: readonly string[]): Record<string, number> {
  return Object.fromEntries(names.map((name, i) => [`${space}::${name}`, i]));
}

/** Elements that a thread moves at once: load8, store8 of common.cuh. */
export const VECTOR = 8;
/** Threads of a block, where nothing asks for another number. */
export const THREADS = 256;
/** norm.cu: threads of a block at most. */
export const NORM_THREADS = 512;
/** transformer.cu: heads that a thread of the rotary embedding turns. */
export const ROTARY_HEADS = 4;
/** adamw.cu and reduce.cu: elements of a tensor that a block works on. */
export const ADAMW_ELEMENTS = 16_384;
export const SPAN_ELEMENTS = 65_536;
/** reduce.cu: columns, and lanes along rows, of a block that adds partial sums. */
export const PARTIALS_SIDE = 32;
/** Rows of a block of the fused attention kernels, and keys of a tile. */
export const TILE_ROWS = 64;
/** FIRE: units of its network at most, and sums that are kept for a segment or a knot of its table. */
export const MOST_UNITS = 128;
export const FIRE_SUMS = 4;

const FLASH = { TILE_ROWS, FIRE_SUMS };
const SIZES: Record<string, Record<string, number>> = {
  'adamw.cu': { ADAMW_ELEMENTS },
  'fire.cu': { MOST_UNITS },
  'fire_table.cu': { MOST_UNITS, FIRE_SUMS },
  'flash_forward.cu': FLASH,
  'flash_backward_queries.cu': FLASH,
  'flash_backward_keys.cu': FLASH,
  'norm.cu': { NORM_THREADS },
  'reduce.cu': { SPAN_ELEMENTS, PARTIALS_SIDE, THREADS },
  'transformer.cu': { ROTARY_HEADS },
};

/** The macros that a source is compiled with, whatever else it is given. */
export function sizesOf(file: string): string[] {
  return Object.entries({ VECTOR, ...SIZES[file] }).map(([name, value]) => `${name}=${value}`);
}

/** What of the agreement a source declares: structs and groups of numbers. */
export function declaredIn(source: string): { structs: string[]; numbers: string[] } {
  return {
    structs: STRUCTS.map(({ name }) => name).filter((name) => source.includes(`struct ${name} {`)),
    numbers: Object.keys(NUMBERS).filter((opening) => source.includes(opening)),
  };
}

export const everythingDeclared = {
  structs: STRUCTS.map(({ name }) => name),
  numbers: Object.keys(NUMBERS),
};

/** C++ to follow a source, which compiles where the source agrees with the host. */
export function assertionsFor(source: string): string {
  const { structs, numbers } = declaredIn(source);
  return [
    ASSERTION_PRELUDE,
    ...STRUCTS.filter(({ name }) => structs.includes(name)).map((struct) => struct.assertions()),
    ...numbers.flatMap((opening) =>
      Object.entries(NUMBERS[opening]!).map(
        ([name, value]) => `static_assert(${name} == ${value}, "${name} is another number on the host");`,
      ),
    ),
  ].join('\n');
}
