/** A study that is killed goes on, and ends in the numbers of one that never was. Runs the built command. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { native } from '@stickbreaking/core/native';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'resume-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The faster one by far for models as small as these. */
const backend = (await native.probe()).available ? 'native' : 'cpu';

const command = fileURLToPath(new URL('../bin/sb-study.js', import.meta.url));
const file = join(folder, 'study.yaml');
writeFileSync(
  file,
  JSON.stringify({
    study: 'mqrar',
    output: 'unused',
    backend,
    task: { sequenceLength: 12, variables: 4, values: 4 },
    pairs: [3],
    learningRates: [0.001],
    model: { hiddenSize: 16, intermediateSize: 24, numLayers: 2, numHeads: 1 },
    training: { steps: 60, sequences: 2, warmupSteps: 1, checkEvery: 2, checkSequences: 4, testSequences: 8 },
    arms: ['stick-breaking', 'softmax+rope'].map((attention) => ({ name: attention, attention })),
  }),
);

/** Starts the study in a folder; `watch` may end it. */
async function run(
  output: string,
  watch?: (kill: (signal: NodeJS.Signals) => void) => Promise<void>,
): Promise<number | null> {
  const child = spawn(process.execPath, [command, '--config', file, `output=${output}`], { stdio: 'ignore' });
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  await watch?.((signal) => child.kill(signal));
  return ended;
}

/** Resolves when a checkpoint of step `step` or later is there. */
async function reached(output: string, arm: string, step: number): Promise<void> {
  for (let tries = 0; tries < 2000; tries++) {
    const arms = join(output, 'arms');
    const own = existsSync(arms) ? readdirSync(arms).find((name) => name.startsWith(arm)) : undefined;
    const checkpoints = own && join(arms, own, 'run/checkpoints');
    if (checkpoints && existsSync(checkpoints)) {
      const steps = readdirSync(checkpoints).map((name) => Number(/^step-(\d+)$/.exec(name)?.[1] ?? 0));
      if (Math.max(0, ...steps) >= step) return;
    }
    await sleep(20);
  }
  throw new Error(`${arm} did not reach step ${step}`);
}

const resultsOf = (output: string) =>
  JSON.parse(readFileSync(join(output, 'results/results.json'), 'utf8')).arms.map(
    ({ id, result }: { id: string; result: unknown }) => ({ id, result }),
  );

it('ends in the same numbers after SIGKILL in one arm and SIGTERM in the next', async () => {
  const [whole, broken] = [join(folder, 'whole'), join(folder, 'broken')];
  const [undisturbed] = await Promise.all([
    run(whole),
    (async () => {
      const killed = await run(broken, async (kill) => {
        await reached(broken, 'stick-breaking', 16);
        kill('SIGKILL');
      });
      expect(killed).toBe(null);
      const stopped = await run(broken, async (kill) => {
        await reached(broken, 'softmax', 8);
        kill('SIGTERM');
      });
      expect(stopped).toBe(143);
      expect(resultsOf(broken)).toHaveLength(1);
      expect(await run(broken)).toBe(0);
    })(),
  ]);
  expect(undisturbed).toBe(0);
  expect(resultsOf(broken)).toEqual(resultsOf(whole));
});
