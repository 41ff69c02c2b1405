/** Pages of cached keys and values in plain tfjs ops. They are variables, whose assignment is as close to "in place" as tfjs allows. */
import {
  concat,
  gather,
  type Tensor,
  type Tensor3D,
  tensor2d,
  tensorScatterUpdate,
  tidy,
  type Variable,
  zeros,
} from '@tensorflow/tfjs-core';
import type { ReferenceKernel } from '../kernels.js';

export const growPages: ReferenceKernel<'GrowPages'> = ({ pages }, { count }) => {
  const [old, ...page] = pages.shape as [number, number, number, number];
  const fresh = zeros([count - old, ...page]);
  return [old === 0 ? fresh : concat([pages, fresh], 0)];
};

export const writePages: ReferenceKernel<'WritePages'> = ({ k, v, keyPages, valuePages }, { slots }) => {
  if (slots.length > 0) {
    write(keyPages as Variable, k, slots);
    write(valuePages as Variable, v, slots);
  }
  return [];
};

export const readPages: ReferenceKernel<'ReadPages'> = ({ pages }, { slots }) => {
  const [, kvHeads, , headDim] = pages.shape as [number, number, number, number];
  if (slots.length === 0) return [zeros([0, kvHeads, headDim])];
  const index = tensor2d(rowsOf(pages, slots), [slots.length, kvHeads], 'int32');
  return [gather(pages.reshape([-1, headDim]), index) as Tensor3D];
};

function write(pages: Variable, rows: Tensor, slots: Int32Array): void {
  tidy(() => {
    const headDim = pages.shape[3]!;
    const places = rowsOf(pages, slots);
    const index = tensor2d(places, [places.length, 1], 'int32');
    const flat = tensorScatterUpdate(pages.reshape([-1, headDim]), index, rows.reshape([-1, headDim]));
    pages.assign(flat.reshape(pages.shape));
  });
}

/** For every slot and key-value head, which row of D numbers it is in the pages. */
function rowsOf(pages: Tensor, slots: Int32Array): Int32Array {
  const [, kvHeads, pageTokens] = pages.shape as [number, number, number, number];
  return Int32Array.from({ length: slots.length * kvHeads }, (_, i) => {
    const slot = slots[Math.floor(i / kvHeads)]!;
    const page = Math.floor(slot / pageTokens);
    return (page * kvHeads + (i % kvHeads)) * pageTokens + (slot % pageTokens);
  });
}
