/** Seeded random inputs for the table of cases: every run draws fresh ones and prints its seed. */

/** Environment variable that sets the seed, to repeat a run that failed. */
export const SEED_VARIABLE = 'STICKBREAKING_SEED';

/** The seed of this run: from the environment, or fresh. */
export function chooseSeed(): number {
  const given = process.env[SEED_VARIABLE];
  if (given === undefined || given === '') return Math.floor(Math.random() * 2 ** 31);
  const seed = Number(given);
  if (!Number.isInteger(seed)) throw new Error(`${SEED_VARIABLE} is '${given}'; expected a whole number.`);
  return seed;
}

export interface Random {
  /** From 0 up to, not including, 1. */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** A whole number from 0 to `below` − 1. */
  integer(below: number): number;
  /** Normal numbers as an input tensor's values. */
  normals(count: number, deviation?: number): Float32Array;
}

/** Mulberry32, seeded by a number and a name, so that one case's inputs do not depend on which others ran. */
export function seededRandom(seed: number, name = ''): Random {
  let state = seed | 0;
  for (let i = 0; i < name.length; i++) state = Math.imul(state ^ name.charCodeAt(i), 0x01000193);
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return {
    uniform,
    normal,
    integer: (below) => Math.floor(uniform() * below),
    normals: (count, deviation = 1) => Float32Array.from({ length: count }, () => deviation * normal()),
  };
}

/** Rounds each value to the nearest bfloat16, in place, so that a backend that stores bfloat16 gets these very inputs. */
export function roundToBfloat16(values: Float32Array): Float32Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const rounded = bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1); // half to even
    bits[i] = (rounded & 0xffff0000) >>> 0;
  }
  return values;
}
