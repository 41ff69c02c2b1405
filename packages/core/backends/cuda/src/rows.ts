/**
 * How a matrix lies in memory where its rows do not simply follow one another. cuBLASLt has its fast kernels where rows
 * begin at multiples of 16 bytes and sizes along rows are such multiples: a feed-forward layer of 2,730 units costs three
 * times one of 2,736. So a matrix of other sizes is kept with rows and columns up to the next multiple of eight, filled
 * with zeros. Matmuls that reach over them give the same numbers, padded with zeros in turn; a gradient of zero leaves them
 * zero under AdamW; and nothing outside the backend sees them. The results of several matmuls of one input lie side by side in
 * one such memory, so that one matmul can make them.
 */
export interface Rows {
  /** The tensor's: of its trailing dimensions together. */
  columns: number;
  /** Columns in memory; those past the tensor's are zero. */
  width: number;
  /** Elements from one row to the next. */
  stride: number;
  /** Rows in memory; those past the tensor's are zero. */
  count: number;
}

/** Sizes along rows are multiples of it: 16 bytes of bfloat16. */
const MULTIPLE = 8;
/** Smaller matrices gain nothing. */
const LEAST = 16;

export function roundUp(size: number): number {
  return Math.ceil(size / MULTIPLE) * MULTIPLE;
}

/** Rows with padding for a matrix of this shape; undefined where it needs none, or is none. */
export function paddedRows(shape: readonly number[]): Rows | undefined {
  const [rows, columns] = shape as [number, number];
  if (shape.length !== 2 || Math.min(rows, columns) < LEAST) return undefined;
  const [count, width] = [roundUp(rows), roundUp(columns)];
  return count === rows && width === columns ? undefined : { columns, width, stride: width, count };
}

/** Rows and columns of a matrix in memory, zero where they are not the matrix's own. */
export interface Extent {
  rows: number;
  columns: number;
}

export interface Matrix extends Extent {
  address: number;
  /** Elements from one row to the next. */
  stride: number;
}

export interface ProductSizes {
  m: number;
  n: number;
  k: number;
  /** A is stored [k,m]. */
  transposeA: boolean;
  /** B is stored [n,k]. */
  transposeB: boolean;
}

/**
 * The sizes over which C [m,n] = op(A) op(B) is best made: sizes along rows up to the next multiple wherever every matrix
 * that has them reaches so far.
 *
 * @param c where the result is added to what is there
 */
export function reachedSizes(
  { m, n, k, transposeA, transposeB }: ProductSizes,
  a: Extent,
  b: Extent,
  c?: Extent,
): { m: number; n: number; k: number } {
  const reach = (size: number, ...extents: (number | undefined)[]) => {
    const up = roundUp(size);
    return extents.every((extent) => extent === undefined || extent >= up) ? up : size;
  };
  return {
    // The rows of A, and of C with them, lie along no row unless A is transposed.
    m: transposeA ? reach(m, a.columns, c?.rows) : m,
    n: reach(n, transposeB ? b.rows : b.columns, c?.columns),
    k: reach(k, transposeA ? a.rows : a.columns, transposeB ? b.columns : b.rows),
  };
}
