/** Shared by the float64 formulas of attention: the layout of a pack, read one query row at a time. */

/** Values of a tensor; the formulas read float32 inputs and compute in float64. */
export type Values = Float32Array | Float64Array;

export interface PackedLayout {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** [S+1] */
  cuSeqlens: readonly number[];
  /** [S+1] */
  cuSeqlensK: readonly number[];
  scale: number;
}

/** One query of one head: where its row begins in q, and where key i of its document begins in k and v. */
export interface QueryRow {
  head: number;
  /** Index among the rows of q. */
  row: number;
  /** Position among the document's keys. */
  position: number;
  document: number;
  /** Offset of the query's D values. */
  q: number;
  /** Offset of the D values of the document's key i. */
  key(i: number): number;
}

export function forEachQuery(layout: PackedLayout, visit: (query: QueryRow) => void): void {
  const { heads, kvHeads, headDim, cuSeqlens, cuSeqlensK } = layout;
  for (let document = 0; document + 1 < cuSeqlens.length; document++) {
    const [begin, end] = [cuSeqlens[document]!, cuSeqlens[document + 1]!];
    const [keyBegin, keyEnd] = [cuSeqlensK[document]!, cuSeqlensK[document + 1]!];
    for (let row = begin; row < end; row++) {
      const position = keyEnd - keyBegin - (end - row);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head / (heads / kvHeads));
        const q = (row * heads + head) * headDim;
        visit({ head, row, position, document, q, key: (i) => ((keyBegin + i) * kvHeads + kvHead) * headDim });
      }
    }
  }
}

export function dot(a: Values, i: number, b: Values, j: number, length: number): number {
  let total = 0;
  for (let d = 0; d < length; d++) total += a[i + d]! * b[j + d]!;
  return total;
}

/** target[i…] += factor · source[j…] */
export function addTo(
  target: Float64Array,
  i: number,
  factor: number,
  source: Values,
  j: number,
  length: number,
): void {
  for (let d = 0; d < length; d++) target[i + d]! += factor * source[j + d]!;
}
