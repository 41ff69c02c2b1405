/**
 * Which of cuBLASLt's suggestions for a matmul is the fastest, where that is not its first: the heuristic is off by up to a sixth
 * for some shapes of the models in `configs/`. Timing them anew in every process would be simpler, but the choice decides the
 * order of sums, and a run that goes on has to repeat its bits. So the choices are measured once for a version of the library and
 * a GPU, and written down here: `STICKBREAKING_AUTOTUNE=1 npm run bench -- cuda-train` measures and prints them.
 */
import { createHash } from 'node:crypto';

/** By library and GPU, then by shape (`planKey` of cublaslt.ts): the place among the suggestions, from 0. */
const CHOICES: Readonly<Record<string, Readonly<Record<string, number>>>> = {};

export interface MatmulChoices {
  /** Undefined: the first. */
  of(key: string): number | undefined;
  /** Stands for all of them; empty where there are none. */
  hash: string;
}

export function matmulChoices(version: number | bigint, deviceName: string): MatmulChoices {
  const found = CHOICES[`${version} on ${deviceName}`];
  return {
    of: (key) => found?.[key],
    hash: found ? createHash('sha256').update(JSON.stringify(found)).digest('hex').slice(0, 8) : '',
  };
}
