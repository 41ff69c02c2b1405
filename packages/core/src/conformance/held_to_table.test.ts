/** The backends that run on any machine, held to the table. */

import { chooseSeed, SEED_VARIABLE } from '@stickbreaking/base';
import { native } from '@stickbreaking/core/native';
import { describe, expect, it } from 'vitest';
import { selectBackend } from '../backends/select.js';
import type { PreparedCase } from './case.js';
import { float32Tolerances, measureCase, prepareCase, tableOfCases } from './held_to_table.js';

const seed = chooseSeed();
console.info(`inputs of seed ${seed} (${SEED_VARIABLE}=${seed} repeats them)`);
const probed = await native.probe();
const backends = [
  { backend: 'cpu', why: '' },
  { backend: 'native', why: probed.available ? '' : probed.why },
];

describe('held to the table', () => {
  for (const held of tableOfCases()) {
    let prepared: PreparedCase | undefined;
    for (const { backend, why } of backends) {
      if (held.large && backend === 'cpu') continue;
      it.skipIf(why !== '')(`${backend}: ${held.name}${why && ` (skipped: ${why})`}`, async () => {
        await selectBackend(backend);
        prepared ??= prepareCase(held, seed);
        const { failures } = await measureCase(held, prepared, float32Tolerances);
        if (backend === backends.at(-1)!.backend) prepared = undefined;
        expect(failures, `${backend}, ${held.name}, seed ${seed}`).toEqual([]);
      });
    }
  }
});
