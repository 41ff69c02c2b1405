/**
 * Which of cuBLASLt's suggestions for a matmul is the fastest, where that is not its first: the heuristic is off by up to a sixth
 * for some shapes of the models in `configs/`. Timing them anew in every process would be simpler, but the choice decides the
 * order of sums, and a run that goes on has to repeat its bits. So the choices are measured once for a version of the library and
 * a GPU, and written down here: `STICKBREAKING_AUTOTUNE=1 npm run bench -- cuda-train` measures and prints them.
 */
import { createHash } from 'node:crypto';

/** By library and GPU, then by shape (`planKey` of cublaslt.ts): the place among the suggestions, from 0. */
const CHOICES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  // Micro-batches of 16,384 tokens of configs/1b.yaml and 350m.yaml, of 8,192 of 3b.yaml.
  '130100 on NVIDIA H100 80GB HBM3': {
    '16384,4608,1536,1536,1536,4608,,,,,false,true,bf16,,false,false': 7,
    '16384,1536,1536,1536,1536,1536,,,,,false,true,bf16,,false,false': 7,
    '16384,8192,1536,1536,1536,8192,,,,,false,true,bf16,,false,false': 6,
    '1280,49152,1536,,,49152,,,,,false,true,f32,,false,false': 7,
    '1024,49152,1536,,,49152,,,,,false,true,f32,,false,false': 6,
    '16384,4096,1536,1536,4096,4096,,,,,false,false,bf16,,false,false': 5,
    '4608,1536,16384,4608,1536,1536,,,,,true,false,f32,,false,false': 5,
    '4608,1536,16384,4608,1536,1536,,,,,true,false,bf16,,false,false': 2,
    '16384,3072,1024,1024,1024,3072,,,,,false,true,bf16,,false,false': 6,
    '16384,1024,1024,1024,1024,1024,,,,,false,true,bf16,,false,false': 2,
    '16384,5472,1024,1024,1024,5472,,,,,false,true,bf16,,false,false': 7,
    '16384,1024,2736,2736,2736,1024,,,,,false,true,bf16,,false,false': 1,
    '2048,32000,1024,,,32000,,,,,false,true,f32,,false,false': 6,
    '16384,2736,1024,1024,2736,2736,,,,,false,false,bf16,,false,false': 2,
    '16384,1024,1024,1024,1024,1024,,,,,false,false,bf16,,false,false': 2,
    '8192,6912,2304,2304,2304,6912,,,,,false,true,bf16,,false,false': 7,
    '8192,2304,2304,2304,2304,2304,,,,,false,true,bf16,,false,false': 4,
    '8192,18432,2304,2304,2304,18432,,,,,false,true,bf16,,false,false': 6,
    '8192,2304,9216,9216,9216,2304,,,,,false,true,bf16,,false,false': 5,
    '1280,50304,2304,,,50304,,,,,false,true,f32,,false,false': 7,
    '512,50304,2304,,,50304,,,,,false,true,f32,,false,false': 5,
    '8192,2304,50304,50304,,,,,,,false,false,bf16,,true,false': 3,
    '50304,2304,8192,50304,,2304,,,,,true,false,f32,,true,false': 6,
    '2304,9216,8192,2304,9216,9216,,,,,true,false,f32,,false,false': 2,
    '8192,9216,2304,2304,9216,9216,,,,,false,false,bf16,,false,false': 7,
    '18432,2304,8192,18432,2304,2304,,,,,true,false,f32,,false,false': 6,
    '2304,2304,8192,2304,2304,2304,,,,,true,false,f32,,false,false': 4,
    '8192,2304,2304,2304,2304,2304,,,,,false,false,bf16,,false,false': 6,
    '8192,2304,6912,6912,2304,2304,,,,,false,false,bf16,,false,false': 7,
  },
};

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
