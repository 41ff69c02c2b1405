/** Helpers of gradients in buckets: those that were made elsewhere, and what is to happen once. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { copyRows } from '../casts.js';
import type { Matrix } from './layout.js';
import type { SumType } from './ordered_sums.js';

/** Writes a matrix's gradient to its place, with the padding of its rows, and in the form of what lies there. */
export function copyTo(
  backend: CudaBackend,
  { address, type }: { address: number; type: SumType },
  gradient: Tensor,
  { shape, rows }: Pick<Matrix, 'shape' | 'rows'>,
): void {
  const isOther = backend.stored(gradient).type !== type;
  const cast = isOther ? backend.cast(gradient, type, 'float32') : gradient;
  const columns = shape[shape.length - 1]!;
  const { stride, width, count } = rows ?? { stride: columns, width: columns, count: 0 };
  const entry = backend.entry(cast);
  const own = entry.size / columns;
  copyRows(
    backend,
    { address, columns: Math.max(stride, width), rows: Math.max(own, count) },
    { address: entry.address, columns, rows: own, stride: columns },
    type,
  );
  if (isOther) backend.disposeData(cast.dataId);
}

/** Does it the first time it is asked. */
export function once(run: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) run();
    isDone = true;
  };
}
