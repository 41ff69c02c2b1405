/**
 * How the weights of a model lie in buckets that several processes share: flat memory, one bucket a layer, of which
 * process r has the r-th of equal parts. Gradients have the same layout, so that sums and copies between processes are in
 * place, and a part may begin and end anywhere in a matrix.
 */
import type { Rows } from '../rows.js';

/** A matrix as it lies in memory, with its padding. */
export interface Item {
  name: string;
  /** Elements in memory. */
  elements: number;
}

/** Where a matrix lies in its bucket, in elements. */
export interface Slot extends Item {
  offset: number;
}

export interface Bucket {
  name: string;
  slots: Slot[];
  /** Whether it has whole layers. */
  isLayer: boolean;
  /** Elements, a multiple of the number of processes. */
  size: number;
}

/** A part of a matrix, in elements: of its own, and of its bucket. */
export interface Slice {
  name: string;
  bucket: number;
  /** From the bucket's start. */
  from: number;
  /** From the matrix's start. */
  offset: number;
  length: number;
}

/** Borders between processes are at multiples of it. */
export const BORDER = 64;
/** Matrices begin at multiples of it, as vector loads want it. */
const ALIGNMENT = 8;
/** Layers are put together up to so many elements: small messages take as long as larger ones. */
const LEAST_ELEMENTS = 6 * 2 ** 20;

/** Buckets of whole layers, in the order of the items; what is no layer's has a bucket of its own. */
export function bucketsOf(items: readonly Item[], processes: number, least = LEAST_ELEMENTS): Bucket[] {
  const buckets: { name: string; isLayer: boolean; items: Item[]; elements: number }[] = [];
  let layer: string | undefined;
  for (const item of items) {
    const own = /^(.*\.layers\.\d+)\./.exec(item.name)?.[1];
    const last = buckets.at(-1);
    const joins = last && own !== undefined && last.isLayer && (own === layer || last.elements < least);
    if (joins) {
      last.items.push(item);
      last.elements += item.elements;
    } else buckets.push({ name: own ?? item.name, isLayer: own !== undefined, items: [item], elements: item.elements });
    layer = own;
  }
  return buckets.map(({ name, isLayer, items: inside }) => {
    let end = 0;
    const slots = inside.map((item) => {
      const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = offset + item.elements;
      return { ...item, offset };
    });
    return { name, slots, isLayer, size: Math.ceil(end / (BORDER * processes)) * BORDER * processes };
  });
}

/** The parts of matrices that lie in a process's part of every bucket. */
export function slicesOf(buckets: readonly Bucket[], rank: number, processes: number): Slice[] {
  return buckets.flatMap(({ slots, size }, bucket) => {
    const [start, end] = [(size / processes) * rank, (size / processes) * (rank + 1)];
    return slots.flatMap(({ name, offset, elements }) => {
      const [from, to] = [Math.max(start, offset), Math.min(end, offset + elements)];
      return from < to ? [{ name, bucket, from, offset: from - offset, length: to - from }] : [];
    });
  });
}

/** What is known of a matrix that lies in a bucket. */
export interface Matrix {
  shape: number[];
  /** Elements in memory, and how its rows are padded there. */
  elements: number;
  rows: Rows | undefined;
  bucket: number;
  /** From the bucket's start. */
  offset: number;
}

/** How the weights of a model are shared out. */
export interface Sharing {
  buckets: readonly Bucket[];
  /** This process's parts. */
  slices: readonly Slice[];
  /** By their names. */
  matrices: ReadonlyMap<string, Matrix>;
}

/**
 * Numbers of a matrix as they lie in memory, without what its rows are filled up with.
 *
 * @param offset the first one's, with the padding
 * @returns the first one's index in the matrix itself, and those that follow
 */
export function rangeWithoutPadding(
  { shape, rows }: Pick<Matrix, 'shape' | 'rows'>,
  offset: number,
  stored: Float32Array,
): { from: number; values: Float32Array } {
  if (!rows) return { from: offset, values: stored };
  const { stride, columns } = rows;
  const count = rowsOf(shape);
  const indexOf = (at: number) =>
    Math.min(count * columns, Math.floor(at / stride) * columns + Math.min(at % stride, columns));
  const from = indexOf(offset);
  const values = new Float32Array(indexOf(offset + stored.length) - from);
  for (let row = Math.floor(offset / stride); row < count && row * stride < offset + stored.length; row++) {
    const begin = Math.max(offset, row * stride);
    const end = Math.min(offset + stored.length, row * stride + columns);
    if (begin < end) values.set(stored.subarray(begin - offset, end - offset), indexOf(begin) - from);
  }
  return { from, values };
}

export function withPadding({ shape, rows }: Matrix, values: Float32Array): Float32Array {
  if (!rows) return values;
  const stored = new Float32Array(rows.count * rows.stride);
  for (let r = 0; r < rowsOf(shape); r++)
    stored.set(values.subarray(r * rows.columns, (r + 1) * rows.columns), r * rows.stride);
  return stored;
}

const rowsOf = (shape: readonly number[]) => shape.slice(0, -1).reduce((product, length) => product * length, 1);
