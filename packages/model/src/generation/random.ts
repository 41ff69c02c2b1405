/**
 * Random numbers by their place in a sequence: the n-th draw of a seed is a function of both, so it does not matter who else
 * draws. Philox4x32 with ten rounds (https://doi.org/10.1145/2063384.2063405).
 */

/** The n-th number of the seed's sequence, uniform in [0, 1), of 53 bits. */
export function uniformAt(seed: number, n: number): number {
  let [k0, k1] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  let [x0, x1, x2, x3] = [n >>> 0, Math.floor(n / 2 ** 32) >>> 0, 0, 0];
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = product(0xd2511f53, x0);
    const [high1, low1] = product(0xcd9e8d57, x2);
    [x0, x1, x2, x3] = [(high1 ^ x1 ^ k0) >>> 0, low1, (high0 ^ x3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return ((x0 >>> 5) * 2 ** 26 + (x1 >>> 6)) / 2 ** 53;
}

/** The upper and the lower half of a product of 32-bit numbers. */
function product(a: number, b: number): [high: number, low: number] {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return [(a1 * b1 + Math.floor(middle / 2 ** 16) + Math.floor(other / 2 ** 16)) >>> 0, Math.imul(a, b) >>> 0];
}
