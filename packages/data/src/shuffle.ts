// The order of documents in an epoch: a Fisher–Yates shuffle driven by sfc32, a small generator of known quality
// (Chris Doty-Humphrey, PractRand), so that it depends on nothing but the numbers given.

/** A permutation of 0 … length−1, the same for the same seed, stream and epoch. */
export function shuffledOrder(length: number, seed: number, stream: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  const next = sfc32(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, stream, epoch);
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

function sfc32(a: number, b: number, c: number, counter: number): () => number {
  const next = () => {
    const result = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + result) | 0;
    return result >>> 0;
  };
  for (let i = 0; i < 20; i++) next(); // spreads the seed over the whole state
  return next;
}
