/** The conformance suite: cases with their float64 twins, to which every backend is held. Free of any test framework. */

export { roundToBfloat16 } from './bfloat16.js';
export type { HeldCase } from './case.js';
export {
  float32Tolerances,
  type HeldOptions,
  type HeldResult,
  heldToTable,
  type Tolerances,
  tableOfCases,
} from './held_to_table.js';
