/**
 * The conformance suite: cases, each with a float64 formula, that every backend must pass. Needs no test framework.
 * `runConformance` runs it on a backend.
 */

export { roundToBfloat16 } from './bfloat16.js';
export type { ConformanceCase } from './case.js';
export {
  bfloat16Tolerances,
  type ConformanceOptions,
  type ConformanceResult,
  conformanceCases,
  float32Tolerances,
  runConformance,
  type Tolerances,
} from './run_conformance.js';
