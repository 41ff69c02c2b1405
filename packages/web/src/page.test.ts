/// <reference lib="dom" />
/**
 * The page in a real browser: its engine has the logits of `native` on both of its backends, and the page shows them. Skipped
 * where no Chromium is installed.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, trainTokenizer } from '@stickbreaking/data';
import { type LlamaConfigInput, LlamaModel } from '@stickbreaking/model';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromiumFlags, chromiumPath, tellIfMissing } from '../../../scripts/chromium.js';
import { bundleWeb, webPage } from '../../../scripts/page/web.mjs';

tellIfMissing('The page of sb-web');

const sizes = { vocabSize: 300, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4, numKvHeads: 2 };
const models: Record<string, LlamaConfigInput> = {
  sticks: { ...sizes, initializerRange: 0.3 },
  rope: { ...sizes, initializerRange: 0.3, attention: 'softmax+rope', tieEmbeddings: true },
};
const text = 'The 7th line of a text, or so they say.';

const base = mkdtempSync(join(tmpdir(), 'sb-web-'));
const filesOf = (name: string) => readdirSync(join(base, name)).map((file) => join(base, name, file));
const expected: Record<string, number[]> = {};

describe.skipIf(!chromiumPath)('in a browser', () => {
  let browser: Browser;

  beforeAll(async () => {
    const lines = Array.from({ length: 24 }, (_, i) => `The ${i}th line of a text has ${i * i} words, or so they say.`);
    writeFileSync(join(base, 'text.txt'), lines.join('\n'));
    const sources = [{ path: join(base, 'text.txt') }];
    await trainTokenizer({ sources, vocabSize: 300, output: join(base, 'tokenizer.json') });
    const tokenizer = openTokenizer(join(base, 'tokenizer.json'));
    await selectBackend('native');
    for (const [name, config] of Object.entries(models)) {
      mkdirSync(join(base, name));
      copyFileSync(join(base, 'tokenizer.json'), join(base, name, 'tokenizer.json'));
      const model = LlamaModel.create(config, { seed: 3 });
      model.save(join(base, name));
      expected[name] = model.lastLogits([tokenizer.beginId, ...tokenizer.encode(text)]).arraySync();
      model.dispose();
    }
    const engine = await bundleWeb('engine.ts', { format: 'iife', globalName: 'page' });
    writeFileSync(join(base, 'engine.js'), engine('.js'));
    writeFileSync(join(base, 'engine.html'), '<input type="file" multiple><script src="engine.js"></script>');
    writeFileSync(join(base, 'page.html'), await webPage());
    // Without a GPU, WebGPU is computed on the processor.
    const args = [...chromiumFlags, '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
    browser = await chromium.launch({ executablePath: chromiumPath!, args });
  });

  afterAll(async () => {
    await browser?.close();
    rmSync(base, { recursive: true, force: true });
  });

  const address = (file: string) => pathToFileURL(join(base, file)).href;

  /** Opens a page, which must not complain, nor ask anybody for anything. */
  async function open(file: string, use: (page: Page) => Promise<void>, options: BrowserContextOptions = {}) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const problems: string[] = [];
    page.on('request', (request) => !/^(file|blob|data):/.test(request.url()) && problems.push(request.url()));
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    await page.goto(address(file));
    await use(page);
    expect(problems).toEqual([]);
    await context.close();
  }

  describe.each(['cpu', 'webgpu'] as const)('on %s', (backend) => {
    it.each(Object.keys(models))('the engine gives the logits of native and says where %s look', async (name) => {
      await open('engine.html', async (page) => {
        await page.setInputFiles('input', filesOf(name));
        const made = await page.evaluate(
          async ({ backend, text }) => {
            const { Engine } = (globalThis as unknown as { page: typeof import('../page/engine.js') }).page;
            const engine = await Engine.open([...document.querySelector('input')!.files!], backend);
            const reading = await engine.read(text);
            const held = engine.heldTensors;
            await engine.read(text);
            return {
              ...{ backend: engine.facts.backend, logits: [...reading.logits], leaked: engine.heldTensors - held },
              ...{ tokens: reading.tokens.map((one) => one.text), next: reading.next },
              sums: reading.weights.map((one, l) => {
                const length = reading.tokens.length;
                const row = (r: number) => one.slice(r * length, (r + 1) * length).reduce((a, b) => a + b, 0);
                return [...reading.remainders[l]!].map((rest, r) => rest + row(r));
              }),
              rest: Math.max(...reading.remainders.flatMap((one) => [...one])),
            };
          },
          { backend, text },
        );
        expect(made.backend).toBe(backend);
        const off = made.logits.map((logit, i) => Math.abs(logit - expected[name]![i]!));
        expect(made.logits.length).toBe(sizes.vocabSize);
        expect(Math.max(...off)).toBeLessThan(1e-3);
        expect(Math.max(...expected[name]!.map(Math.abs))).toBeGreaterThan(1);
        expect(made.leaked).toBe(0);
        expect(made.tokens.slice(1).join('')).toBe(text);
        for (const sum of made.sums.flat()) expect(sum).toBeCloseTo(1, 3);
        if (name === 'sticks') expect(made.rest).toBeGreaterThan(0.9);
        else expect(made.rest).toBeLessThan(1e-3);
        const likeliest = expected[name]!.indexOf(Math.max(...expected[name]!));
        expect(made.next[0]!.id).toBe(likeliest);
      });
    });
  });

  const phone = { viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true };

  it.each([
    ['desk', { viewport: { width: 1200, height: 900 } }],
    ['phone', phone],
  ] as const)('shows what is typed on a %s', async (name, options) => {
    await open(
      'page.html',
      async (page) => {
        await page.setInputFiles('input', filesOf('sticks'));
        await page.getByText(/2 layers of 4 heads, stick-breaking attention; computed by WebGPU/).waitFor();
        await page.getByRole('textbox', { name: 'Text' }).fill(text);
        const tokens = page.locator('.tokens button');
        await page.waitForFunction(() => document.querySelector('.tokens')?.textContent?.endsWith('say.'));
        expect(await page.locator('.remainder').textContent()).toMatch(/^remainder [\d.<]+%$/);
        const last = (await tokens.count()) - 1;
        await tokens.nth(last).focus();
        await page.keyboard.press('ArrowLeft');
        expect(await tokens.nth(last - 1).getAttribute('aria-pressed')).toBe('true');
        await page.getByRole('button', { name: 'layer 0, head 2' }).click();
        expect(await page.getByRole('img', { name: /^Attention of layer 0, head 2/ }).count()).toBe(1);
        expect(await page.locator('.next li').count()).toBe(10);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        expect(wide).toBe(false);
        if (name === 'phone') return;
        const before = await tokens.count();
        await page.locator('.next button').first().click();
        await page.waitForFunction((count) => document.querySelectorAll('.tokens button').length > count, before);
        await page.getByRole('button', { name: 'Let it write on' }).click();
        await page.waitForFunction(
          (length) => document.querySelector('textarea')!.value.length > length + 8,
          text.length,
        );
        await page.getByRole('button', { name: 'Stop' }).click();
        await page.getByRole('button', { name: 'Let it write on' }).waitFor();
        expect((await page.getByRole('textbox', { name: 'Text' }).inputValue()).length).toBeGreaterThan(
          text.length + 5,
        );
      },
      options,
    );
  });

  it('says which files are missing, and what is wrong with one', async () => {
    await open('page.html', async (page) => {
      const alert = page.getByRole('alert');
      await page.setInputFiles('input', [join(base, 'sticks/config.json')]);
      await alert.getByText('tokenizer.json is missing among the files.').waitFor();
      await page.setInputFiles('input', [join(base, 'sticks/config.json'), join(base, 'tokenizer.json')]);
      await alert.getByText('model.safetensors is missing among the files.').waitFor();
      writeFileSync(join(base, 'model.safetensors'), 'nothing');
      await page.setInputFiles('input', [
        ...[join(base, 'sticks/config.json'), join(base, 'tokenizer.json'), join(base, 'model.safetensors')],
      ]);
      await alert.getByText(/model.safetensors is not a valid safetensors file: it has 7 bytes/).waitFor();
    });
  });
});
