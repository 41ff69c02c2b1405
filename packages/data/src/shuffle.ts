// The order of documents in an epoch: a Fisher–Yates shuffle driven by sfc32, so that it depends on nothing but the
// numbers given.
import { sfc32 } from '@stickbreaking/base';

/** A permutation of 0 … length−1, the same for the same seed, stream and epoch. */
export function shuffledOrder(length: number, seed: number, stream: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  const next = sfc32([seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, stream, epoch], 20);
  for (let i = length - 1; i > 0; i--) {
    // 53 random bits leave a bias below 2^-21 even for 2^32 documents
    const random = (next() >>> 5) * 2 ** 26 + (next() >>> 6);
    const j = Math.floor((random / 2 ** 53) * (i + 1));
    const other = order[j]!;
    order[j] = order[i]!;
    order[i] = other;
  }
  return order;
}
