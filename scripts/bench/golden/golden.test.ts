/** Every kind of attention still trains as it did: losses and gradient norms of twenty steps, held to recorded ones. */
import { readFileSync } from 'node:fs';
import { selectBackend } from '@stickbreaking/core';
import { describe, expect, it } from 'vitest';
import { compare, goldenRun, models, nativeFingerprint, STEPS } from './runs.mjs';

// A matmul library's numbers are its own affair; the backend's own are the project's.
process.env.STICKBREAKING_BLAS = 'own';

const recorded: { fingerprint: string; runs: Record<string, { losses: number[]; gradientNorms: number[] }> } =
  JSON.parse(readFileSync(new URL('native.json', import.meta.url), 'utf8'));
const sameMachine = nativeFingerprint() === recorded.fingerprint;

type Within = { losses: number; gradientNorms: number };
/** Largest relative differences in float32, whose sums another machine or backend takes in another order. */
const rounding: Within = { losses: 1e-4, gradientNorms: 1e-3 };
/** FIRE's gradients are sums that all but cancel, and AdamW brings small gradients up to size with what was lost. */
const fireRounding: Within = { losses: 2e-3, gradientNorms: 2e-2 };
/** Where two experts' logits are all but equal, rounding decides which of them a token has. */
const expertsRounding: Within = { losses: 5e-3, gradientNorms: 5e-2 };
/** With activations in bfloat16; four and three times what an H100 gives. */
const bfloat16: Within = { losses: 0.02, gradientNorms: 0.2 };
const backends = [
  { backend: 'native', exact: sameMachine, within: rounding, fire: fireRounding, experts: expertsRounding },
  { backend: 'cpu', exact: false, within: rounding, fire: fireRounding, experts: expertsRounding },
  { backend: 'cuda', exact: false, within: bfloat16, fire: bfloat16, experts: bfloat16 },
];

it('the recorded runs are those of today', () => {
  expect(Object.keys(recorded.runs)).toEqual(Object.keys(models));
  for (const run of Object.values(recorded.runs)) expect(run.losses).toHaveLength(STEPS);
});

for (const { backend, exact, within, fire, experts } of backends) {
  const why = await selectBackend(backend).then(
    () => '',
    (error: Error) => error.message,
  );
  const how = exact ? 'to the bit' : 'within rounding';
  describe.skipIf(why !== '')(`${backend}, ${how}${why && ` (skipped: ${why})`}`, () => {
    it.each(Object.keys(models))('%s', async (name) => {
      await selectBackend(backend);
      const run = await goldenRun(name);
      if (exact) return expect(run).toEqual(recorded.runs[name]);
      const apart = compare(run, recorded.runs[name]!);
      const { losses, gradientNorms } = name === 'fire' ? fire : name.startsWith('experts') ? experts : within;
      expect(apart.losses).toBeLessThan(losses);
      expect(apart.gradientNorms).toBeLessThan(gradientNorms);
    });
  });
}
