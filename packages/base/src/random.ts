/**
 * Seeded random numbers, the same for the same seed on every machine. Two generators, because results depend on
 * the streams of both: sfc32 for initial weights, samples and the order of documents, mulberry32 for the inputs of tests.
 */

/**
 * sfc32, a small generator of known quality (Chris Doty-Humphrey, PractRand): whole numbers of 32 bits.
 *
 * @param warmUp numbers thrown away first, which spreads the seed over the whole state
 */
export function sfc32([a, b, c, counter]: readonly [number, number, number, number], warmUp: number): () => number {
  let [x, y, z, count] = [a | 0, b | 0, c | 0, counter | 0];
  const next = () => {
    const result = (((x + y) | 0) + count) | 0;
    count = (count + 1) | 0;
    x = y ^ (y >>> 9);
    y = (z + (z << 3)) | 0;
    z = (((z << 21) | (z >>> 11)) + result) | 0;
    return result >>> 0;
  };
  for (let i = 0; i < warmUp; i++) next();
  return next;
}

/** Uniform numbers in [0, 1) from a seed and a name: sfc32, seeded with FNV-1a of both. */
export function generator(seed: number, name = ''): () => number {
  let hash = 0x811c9dc5;
  for (const character of `${seed}/${name}`) hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
  const next = sfc32([hash, seed, ~hash, 1], 16);
  return () => next() / 2 ** 32;
}

/** mulberry32 (Tommy Ettinger): uniform numbers in [0, 1) from a state of 32 bits. */
export function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A seeded source of random numbers for tests. */
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

/**
 * Random inputs for tests: mulberry32, seeded by a number and a name, so that tests do not affect each other's inputs.
 */
export function seededRandom(seed: number, name = ''): Random {
  let hash = seed | 0;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  const uniform = mulberry32(hash);
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return {
    uniform,
    normal,
    integer: (below) => Math.floor(uniform() * below),
    normals: (count, deviation = 1) => Float32Array.from({ length: count }, () => deviation * normal()),
  };
}

/** Environment variable that sets the seed of tests with random inputs, to repeat a run: `12345`, or `12345/` and a path. */
export const SEED_VARIABLE = 'STICKBREAKING_SEED';

/** The seed of this run of tests: from the environment, or fresh. */
export function chooseSeed(): number {
  const given = globalThis.process?.env[SEED_VARIABLE]; // no process in a browser
  if (given === undefined || given === '') return Math.floor(Math.random() * 2 ** 31);
  const seed = Number(given.split('/')[0]);
  if (!Number.isInteger(seed)) throw new Error(`${SEED_VARIABLE} is '${given}'; expected a whole number.`);
  return seed;
}
