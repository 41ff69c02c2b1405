/**
 * Rounding to bfloat16 up or down at random, in proportion to what is lost: the mean is exact, so that changes too small for a
 * bfloat16 add up over many steps (https://arxiv.org/abs/2010.06192). The random numbers are a hash of where a number stands,
 * the same in every backend and every run.
 */

/** Stands for a parameter at a step of AdamW, both counted from 0 or 1. */
export function momentSeed(step: number, parameter: number): number {
  return (Math.imul(step, 0x85ebca6b) ^ Math.imul(parameter + 1, 0xc2b2ae35)) >>> 0;
}

/** 32 random bits for the number at `index`: the lower half is for the first moment, the upper for the second. */
export function roundingBits(seed: number, index: number): number {
  let h = Math.imul(index, 0x9e3779b1) ^ seed;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Where in `roundingBits` a moment's sixteen begin. */
export const MOMENT_SHIFT = { first: 0, second: 16 } as const;

/** Rounds values in place. */
export function roundStochastically(values: Float32Array, seed: number, moment: keyof typeof MOMENT_SHIFT): void {
  const shift = MOMENT_SHIFT[moment];
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    // Infinities and NaN stay what they are.
    if ((bits[i]! & 0x7f800000) === 0x7f800000) continue;
    bits[i] = (bits[i]! + ((roundingBits(seed, i) >>> shift) & 0xffff)) & 0xffff0000;
  }
}
