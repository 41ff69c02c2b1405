/// <reference lib="dom" />
/**
 * The package in a real browser, where no backend of its own can run: bundled as an application would, it computes both
 * kinds of attention with their gradients on tfjs's own backends, and they equal the float64 formulas. Skipped where no
 * Chromium is installed.
 */
import { fileURLToPath } from 'node:url';
import { chooseSeed } from '@stickbreaking/base';
import { build } from 'esbuild';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromiumFlags, chromiumPath, tellIfMissing } from '../../../../scripts/chromium.js';

tellIfMissing('@stickbreaking/core');

const seed = chooseSeed();
/** Small cases. WebGL is slow here, where the processor computes it: two must do. */
const onWebgl = [
  'stick-breaking, D 16, heads 1/1, documents of 1 to 65',
  'softmax alibi, D 32, heads 1/1, documents of 1 to 65',
];
const onCpu = [
  ...onWebgl,
  'stick-breaking with the current token, D 16, heads 7/1, documents of 1 to 65',
  'softmax rope, D 16, heads 7/1, documents of 1 to 65',
  'softmax none, window 1, D 32, heads 4/2, documents of 1 to 65',
  'softmax fire, D 16, heads 1/1, documents of 1 to 65',
];

const application = `
import { selectBackend } from '@stickbreaking/core';
import { runConformance } from '@stickbreaking/core/conformance';
globalThis.conformance = ({ backend, cases, seed }) =>
  runConformance(backend, undefined, { seed, only: ({ name }) => cases.includes(name) });
globalThis.choose = (backend) => selectBackend(backend);
`;

interface Application {
  conformance(run: { backend: string; cases: string[]; seed: number }): Promise<{ name: string; failures: string[] }[]>;
  choose(backend: string): Promise<{ name: string; reason: string }>;
}

describe.skipIf(!chromiumPath)('in a browser', () => {
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];

  beforeAll(async () => {
    const bundle = await build({
      stdin: { contents: application, resolveDir: fileURLToPath(new URL('../..', import.meta.url)) },
      bundle: true,
      format: 'iife',
      platform: 'browser',
      write: false,
      logLevel: 'warning',
    });
    // Without a GPU, WebGL is computed on the processor.
    const args = [...chromiumFlags, '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'];
    browser = await chromium.launch({ executablePath: chromiumPath!, args });
    page = await browser.newPage();
    page.on('pageerror', (error) => problems.push(error.message));
    await page.addScriptTag({ content: bundle.outputFiles[0]!.text });
  });

  afterAll(() => browser?.close());

  it.each([
    { backend: 'cpu', cases: onCpu },
    { backend: 'webgl', cases: onWebgl },
  ])('attention and its gradients are those of the float64 formulas on $backend', async ({ backend, cases }) => {
    const run = { backend, cases, seed };
    const results = await page.evaluate((given) => (globalThis as unknown as Application).conformance(given), run);
    expect(results.map(({ name }) => name).sort()).toEqual([...cases].sort());
    expect(results.flatMap(({ name, failures }) => failures.map((failure) => `${name}: ${failure}`))).toEqual([]);
    expect(problems).toEqual([]);
  });

  it('a backend with a native part says that it is none for a browser; the default passes it over', async () => {
    const chosen = await page.evaluate(() => (globalThis as unknown as Application).choose('auto'));
    expect(chosen.name).toBe('cpu');
    expect(chosen.reason).toMatch(/cuda is not available: .*Node.*; native is not available: .*Node.*; using cpu/);
    const refused = page.evaluate(() => (globalThis as unknown as Application).choose('native'));
    await expect(refused).rejects.toThrow(/Backend 'native' cannot run here: it needs Node/);
  });
});
