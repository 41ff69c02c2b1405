/** One step of generation: the newest token of each document attends to the keys that are cached for it. */
import { UserError } from '@stickbreaking/base';
import { type Tensor, type Tensor2D, type Tensor3D, tidy } from '@tensorflow/tfjs-core';
import { checkNumber, checkShape } from '../checks.js';
import type { DecodeAttributes } from '../kernels.js';
import { runKernel } from '../run_kernel.js';

/** Options of `decodeAttention`: the documents' lengths and pages, and which attention it is. */
export interface DecodeOptions extends DecodeAttributes {
  /** [P, K, T, D], a variable */
  keyPages: Tensor;
  /** [P, K, T, D], a variable */
  valuePages: Tensor;
}

/**
 * Attention of one new token for each of N documents. The token's key and value are written to the document's pages in
 * place (`writePages`), the key turned by RoPE if there are frequencies; then its query attends to the document's keys.
 * Stick-breaking attention reads them from the newest and, on backends with a kernel of their own, stops where every head's
 * stick is exhausted. Not differentiable. A row's result does not depend on the other rows.
 *
 * @param q [N, H, D]
 * @param k [N, K, D] with H a multiple of K
 * @param v [N, K, D]
 * @returns output [N, H, D]; remainder [N, H], 0 with softmax; keysRead int32 [N, K]
 * @throws UserError if shapes, lengths or pages do not fit
 */
export function decodeAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: DecodeOptions,
): { output: Tensor3D; remainder: Tensor2D; keysRead: Tensor2D } {
  const op = 'decodeAttention';
  const { keyPages, valuePages, ...attrs } = options;
  checkShape(op, 'q', q, [-1, -1, -1]);
  checkShape(op, 'keyPages', keyPages, [-1, -1, -1, q.shape[2]]);
  checkShape(op, 'valuePages', valuePages, keyPages.shape);
  const [pages, kvHeads, pageTokens] = keyPages.shape as [number, number, number, number];
  const [rows, heads, headDim] = q.shape;
  checkShape(op, 'k', k, [rows, kvHeads, headDim]);
  checkShape(op, 'v', v, [rows, kvHeads, headDim]);
  if (kvHeads === 0 || heads % kvHeads !== 0) {
    throw new UserError(`${op}: ${heads} query heads cannot be shared among ${kvHeads} key-value heads.`);
  }
  checkNumber(op, 'scale', attrs.scale);
  checkTable(op, attrs, rows, pages, pageTokens);
  const { inverseFrequencies } = attrs;
  if (inverseFrequencies && inverseFrequencies.length * 2 !== headDim) {
    throw new UserError(`${op}: ${inverseFrequencies.length} inverse frequencies for a head dimension of ${headDim}.`);
  }
  const [output, remainder, keysRead] = tidy(() =>
    runKernel('DecodeAttention', { q, k, v, keyPages, valuePages }, attrs),
  );
  return { output: output as Tensor3D, remainder: remainder as Tensor2D, keysRead: keysRead as Tensor2D };
}

/** Kernels check no bounds: a length or a page that does not exist must not reach them. */
function checkTable(
  op: string,
  { lengths, table }: DecodeAttributes,
  rows: number,
  pages: number,
  pageTokens: number,
): void {
  if (lengths.length !== rows) throw new UserError(`${op}: ${lengths.length} lengths for ${rows} rows.`);
  const width = rows === 0 ? 0 : table.length / rows;
  if (!Number.isInteger(width)) throw new UserError(`${op}: a table of ${table.length} pages for ${rows} rows.`);
  for (let row = 0; row < rows; row++) {
    const used = Math.ceil(lengths[row]! / pageTokens);
    if (lengths[row]! < 0 || used > width) {
      throw new UserError(`${op}: row ${row} has ${lengths[row]} keys; its ${width} pages hold ${width * pageTokens}.`);
    }
    for (let i = row * width; i < row * width + used; i++) {
      if (table[i]! < 0 || table[i]! >= pages) {
        throw new UserError(`${op}: row ${row} names page ${table[i]} of ${pages}.`);
      }
    }
  }
}
