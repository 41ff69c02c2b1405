/** Position schemes in float64, written from their publications and not from the code that they test. */
import type { PackedLayout, Values } from './packed.js';

export type Scaling64 =
  | { kind: 'linear'; factor: number }
  | { kind: 'ntk'; factor: number }
  | { kind: 'dynamic'; factor: number; originalContextLength: number };

/** `1 / base^(2i/D)`, scaled as `transformers` scales it; static NTK changes the base only. */
export function frequencies64(headDim: number, theta: number, scaling: Scaling64 | undefined, length: number) {
  let base = theta;
  let stretch = 1;
  if (scaling?.kind === 'linear') stretch = scaling.factor;
  if (scaling?.kind === 'ntk') base *= scaling.factor ** (headDim / (headDim - 2));
  if (scaling?.kind === 'dynamic') {
    const { factor, originalContextLength: trained } = scaling;
    const seen = Math.max(length, trained);
    base *= ((factor * seen) / trained - (factor - 1)) ** (headDim / (headDim - 2));
  }
  return Float64Array.from({ length: headDim / 2 }, (_, i) => 1 / base ** ((2 * i) / headDim) / stretch);
}

/**
 * Rotates the pairs (i, i + D/2) of every row of x [N, heads, D] by position · frequency.
 *
 * @param angles position and frequencies [D/2] of a row
 * @param direction 1, or −1 to rotate back, which is also the gradient
 */
export function rotate64(
  x: Values,
  heads: number,
  headDim: number,
  angles: (row: number) => { position: number; frequencies: Values },
  direction: 1 | -1 = 1,
): Float64Array {
  const y = new Float64Array(x.length);
  const half = headDim / 2;
  for (let row = 0; row * heads * headDim < x.length; row++) {
    const { position, frequencies } = angles(row);
    for (let h = 0; h < heads; h++) {
      const at = (row * heads + h) * headDim;
      for (let i = 0; i < half; i++) {
        const [cos, sin] = [Math.cos(position * frequencies[i]!), direction * Math.sin(position * frequencies[i]!)];
        y[at + i] = x[at + i]! * cos - x[at + half + i]! * sin;
        y[at + half + i] = x[at + half + i]! * cos + x[at + i]! * sin;
      }
    }
  }
  return y;
}

/** The document of each row, and its position in the document's keys; `of` names whose rows. */
export function rowPositions(layout: PackedLayout, of: 'queries' | 'keys'): { document: number; position: number }[] {
  const bounds = of === 'queries' ? layout.cuSeqlens : layout.cuSeqlensK;
  const rows: { document: number; position: number }[] = [];
  for (let document = 0; document + 1 < bounds.length; document++) {
    const count = bounds[document + 1]! - bounds[document]!;
    const keys = layout.cuSeqlensK[document + 1]! - layout.cuSeqlensK[document]!;
    for (let r = 0; r < count; r++) rows.push({ document, position: keys - count + r });
  }
  return rows;
}

/** ALiBi's slopes by the recursion of the authors' code (https://github.com/ofirpress/attention_with_linear_biases). */
export function alibiSlopes64(heads: number): number[] {
  const log = Math.log2(heads);
  if (Number.isInteger(log)) {
    const start = 2 ** -(2 ** -(log - 3));
    return Array.from({ length: heads }, (_, h) => start * start ** h);
  }
  const below = 2 ** Math.floor(log);
  const doubled = alibiSlopes64(2 * below).filter((_, h) => h % 2 === 0);
  return [...alibiSlopes64(below), ...doubled.slice(0, heads - below)];
}
