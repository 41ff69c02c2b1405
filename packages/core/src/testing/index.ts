/** The table of cases for programs outside the test suite, such as a check on a machine with a GPU; not published. */
export type { HeldCase } from './case.js';
export {
  float32Tolerances,
  type HeldOptions,
  type HeldResult,
  heldToTable,
  type Tolerances,
  tableOfCases,
} from './held_to_table.js';
