/** The conformance suite on each backend that can run on this machine. */

import { chooseSeed } from '@stickbreaking/base';
import { cuda } from '@stickbreaking/core/cuda';
import { native } from '@stickbreaking/core/native';
import { describe, expect, it } from 'vitest';
import { selectBackend } from '../backends/select.js';
import type { PreparedCase } from './case.js';
import {
  bfloat16Tolerances,
  conformanceCases,
  float32Tolerances,
  measureCase,
  prepareCase,
} from './run_conformance.js';

const seed = chooseSeed();
const [nativeHere, cudaHere] = [await native.probe(), await cuda.probe()];
/** cuda stores bfloat16 and gets inputs that are exact in it; the others share theirs. */
const backends = [
  { backend: 'cpu', why: '', bfloat16: false },
  { backend: 'native', why: nativeHere.available ? '' : nativeHere.why, bfloat16: false },
  { backend: 'cuda', why: cudaHere.available ? '' : cudaHere.why, bfloat16: true },
];
for (const { backend, why } of backends) if (why) console.info(`${backend} is skipped: ${why}`);
const lastToShare = backends.findLast(({ why, bfloat16 }) => !why && !bfloat16)?.backend;

describe('conformance', () => {
  for (const testCase of conformanceCases()) {
    let shared: PreparedCase | undefined;
    for (const { backend, why, bfloat16 } of backends) {
      if (testCase.large && backend === 'cpu') continue;
      it.skipIf(why !== '')(`${backend}: ${testCase.name}`, async () => {
        await selectBackend(backend);
        if (!bfloat16) shared ??= prepareCase(testCase, seed);
        const prepared = bfloat16 ? prepareCase(testCase, seed, true) : shared!;
        if (backend === lastToShare) shared = undefined;
        const { failures } = await measureCase(testCase, prepared, bfloat16 ? bfloat16Tolerances : float32Tolerances);
        expect(failures, `${backend}, ${testCase.name}, seed ${seed}`).toEqual([]);
      });
    }
  }
});
