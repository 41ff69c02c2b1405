/** The conformance suite on the backends that run on any machine. */

import { chooseSeed, SEED_VARIABLE } from '@stickbreaking/base';
import { native } from '@stickbreaking/core/native';
import { describe, expect, it } from 'vitest';
import { selectBackend } from '../backends/select.js';
import type { PreparedCase } from './case.js';
import { conformanceCases, float32Tolerances, measureCase, prepareCase } from './run_conformance.js';

const seed = chooseSeed();
console.info(`inputs of seed ${seed} (${SEED_VARIABLE}=${seed} repeats them)`);
const probed = await native.probe();
const backends = [
  { backend: 'cpu', why: '' },
  { backend: 'native', why: probed.available ? '' : probed.why },
];

describe('conformance', () => {
  for (const testCase of conformanceCases()) {
    let prepared: PreparedCase | undefined;
    for (const { backend, why } of backends) {
      if (testCase.large && backend === 'cpu') continue;
      it.skipIf(why !== '')(`${backend}: ${testCase.name}${why && ` (skipped: ${why})`}`, async () => {
        await selectBackend(backend);
        prepared ??= prepareCase(testCase, seed);
        const { failures } = await measureCase(testCase, prepared, float32Tolerances);
        if (backend === backends.at(-1)!.backend) prepared = undefined;
        expect(failures, `${backend}, ${testCase.name}, seed ${seed}`).toEqual([]);
      });
    }
  }
});
