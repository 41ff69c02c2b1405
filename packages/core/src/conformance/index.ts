/** The conformance suite: cases with their float64 twins, to which every backend is held. Free of any test framework. */
export type { HeldCase } from './case.js';
export {
  float32Tolerances,
  type HeldOptions,
  type HeldResult,
  heldToTable,
  type Tolerances,
  tableOfCases,
} from './held_to_table.js';
export { chooseSeed, type Random, roundToBfloat16, SEED_VARIABLE, seededRandom } from './random.js';
