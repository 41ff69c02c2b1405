/**
 * A cache of keys or values in pages: [P, K, T, D], each page T tokens of one document. Documents of any lengths share one
 * such tensor, grow without being copied, and may share pages.
 */
import { UserError } from '@stickbreaking/base';
import { type Tensor, type Tensor3D, type Tensor4D, tidy } from '@tensorflow/tfjs-core';
import { checkInt, checkInts, checkShape, type Ints } from '../checks.js';
import { runKernel } from '../run_kernel.js';

/**
 * More pages, the given ones first; what the new ones hold is undefined. To be written to, they must be a variable.
 *
 * @param pages [P, K, T, D]
 * @param count at least P
 * @returns [count, K, T, D]
 */
export function growPages(pages: Tensor, count: number): Tensor4D {
  checkShape('growPages', 'pages', pages, [-1, -1, -1, -1]);
  checkInt('growPages', 'count', count, pages.shape[0]);
  return tidy(() => runKernel('GrowPages', { pages }, { count })[0] as Tensor4D);
}

/**
 * Writes keys and values to pages, in place.
 *
 * @param k [N, K, D]
 * @param v [N, K, D]
 * @param keyPages [P, K, T, D], a variable
 * @param valuePages [P, K, T, D], a variable
 * @param slots [N] where each row goes, page·T + offset in the page; all different
 */
export function writePages(k: Tensor, v: Tensor, keyPages: Tensor, valuePages: Tensor, slots: Ints): void {
  const op = 'writePages';
  checkShape(op, 'keyPages', keyPages, [-1, -1, -1, -1]);
  const [, kvHeads, , headDim] = keyPages.shape;
  checkShape(op, 'valuePages', valuePages, keyPages.shape);
  checkShape(op, 'k', k, [slots.length, kvHeads, headDim]);
  checkShape(op, 'v', v, [slots.length, kvHeads, headDim]);
  tidy(() => {
    runKernel('WritePages', { k, v, keyPages, valuePages }, { slots: checkSlots(op, keyPages, slots) });
  });
}

/**
 * @param pages [P, K, T, D]
 * @param slots [M] where each row lies, page·T + offset in the page
 * @returns [M, K, D]
 */
export function readPages(pages: Tensor, slots: Ints): Tensor3D {
  checkShape('readPages', 'pages', pages, [-1, -1, -1, -1]);
  const attrs = { slots: checkSlots('readPages', pages, slots) };
  return tidy(() => runKernel('ReadPages', { pages }, attrs)[0] as Tensor3D);
}

function checkSlots(op: string, pages: Tensor, slots: Ints): Int32Array {
  const size = pages.shape[0]! * pages.shape[2]!;
  const checked = slots instanceof Int32Array ? slots : checkInts(op, 'slots', slots);
  for (const slot of checked) {
    if (slot < 0 || slot >= size) throw new UserError(`${op}: slot ${slot} is outside the ${size} that there are.`);
  }
  return checked;
}
