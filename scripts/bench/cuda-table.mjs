// The GPU held to the table of cases that every backend is held to, twice, at bfloat16's tolerances: runs where vitest
// does not, e.g. from the bundle on a cluster: `bin/cuda-table`. STICKBREAKING_SEED repeats a run's inputs.
import { heldToTable } from '../../packages/core/dist/testing/index.js';

// Inputs are exact in bfloat16; outputs are rounded to it, weights are rounded on their way to the second product.
// FIRE's sums and extreme logits (±200: one bit of a bfloat16 dot product moves a weight by several per cent) get more.
const tolerances = {
  output: 1e-2,
  gradient: 1.5e-2,
  extreme: { output: 2e-2, gradient: 3e-2 },
};
const filter = process.argv[2];
let failed = 0;
let worst = 0;
const results = await heldToTable('cuda', tolerances, {
  bfloat16Inputs: true,
  ...(filter ? { only: ({ name }) => name.includes(filter) } : {}),
  onResult({ name, errors, failures }) {
    const largest = Math.max(0, ...Object.values(errors));
    worst = Math.max(worst, largest);
    if (failures.length > 0) {
      failed++;
      console.log(`FAIL ${name}: ${failures.join('; ')}`);
    } else if (process.env.VERBOSE) console.log(`ok   ${name} ${largest.toExponential(2)}`);
  },
});
console.log(`${results.length} cases, ${failed} failed, largest error relative in norm ${worst.toExponential(2)}`);
process.exitCode = failed > 0 ? 1 : 0;
