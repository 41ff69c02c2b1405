/// <reference lib="dom" />
/** The board and the report in a real browser, as people use them. Skipped where no Chromium is installed. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { UserError } from '@stickbreaking/base';
import { lockOrRefuse } from '@stickbreaking/base/node';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromiumFlags, chromiumPath, tellIfMissing } from '../../../scripts/chromium.js';
import { createBoard } from './board.js';
import { renderReport } from './report.js';
import { appendSteps, makeRun } from './run.fixture.js';
import { RunReader } from './run_reader.js';
import { Runs } from './runs.js';

tellIfMissing('The board');

const base = mkdtempSync(join(tmpdir(), 'board-browser-'));
const [a, b] = [join(base, 'runs/a'), join(base, 'runs/b')];
const desktop = { viewport: { width: 1200, height: 900 } };
const phone = { viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

/** As a model of two layers of two heads would answer, but for the pictures, which are of one cell. */
const openLooker = async (checkpoint: string) => ({
  look: async (text: string, { layer = 0 }: { layer?: number }) => {
    if (text === 'fail') throw new UserError('The weights are damaged.');
    const cell = `<g class="sb-point"><rect class="sb-cell" width="40" height="40"/><text class="sb-said">a (1) gives b (2) 0.${layer}5</text></g>`;
    return {
      ...{ checkpoint, attention: { kind: 'stick-breaking', attendCurrent: false }, leavesRemainder: true, layer },
      ...{
        tokens: ['a', 'b'],
        cut: false,
        continuation: ' and so <i>on</i>',
        style: '.sb-cell { fill: var(--weight) }',
      },
      reach: [0, 1].map((l) => [1.5, 20].map((distance) => ({ distance: distance + l, remainder: 0.25 }))),
      pictures: [0, 1].map((head) => `<svg viewBox="0 0 40 40" role="img" aria-label="head ${head}">${cell}</svg>`),
    };
  },
  dispose: () => {},
});

describe.skipIf(!chromiumPath)('in a browser', () => {
  let browser: Browser;
  let server: Server;
  let address: string;

  beforeAll(async () => {
    makeRun(a, { steps: 20, samples: true, evaluation: true });
    makeRun(b, { steps: 10, totalSteps: 40, learningRate: 0.01, samples: true });
    const board = createBoard(new Runs([join(base, 'runs')]), { openLooker });
    server = createAdaptorServer({ fetch: board.fetch }) as Server;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    address = `http://127.0.0.1:${(server.address() as { port: number }).port}/`;
    browser = await chromium.launch({ executablePath: chromiumPath!, args: [...chromiumFlags, '--disable-gpu'] });
  });

  afterAll(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
    rmSync(base, { recursive: true, force: true });
  });

  /** Opens the page, which must not complain, nor ask anybody but its own server for anything. */
  async function open(
    url: string,
    options: BrowserContextOptions,
    use: (page: Page) => Promise<void>,
    expected: readonly RegExp[] = [],
  ): Promise<void> {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const problems: string[] = [];
    const [origin] = url.split('#');
    page.on('request', (request) => !request.url().startsWith(origin!) && problems.push(request.url()));
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => problems.push(message.text()));
    await page.goto(url);
    await page.getByRole('slider', { name: /^Training loss/ }).waitFor();
    await use(page);
    expect(problems.filter((one) => !expected.some((pattern) => pattern.test(one)))).toEqual([]);
    await context.close();
  }

  const loss = (page: Page) => page.getByRole('slider', { name: 'Training loss (nats per token) by' });
  const told = (page: Page) => loss(page).getAttribute('aria-valuetext');
  const isTold = (page: Page, text: string) =>
    page.waitForFunction(
      (wanted) => document.querySelector('.plot')?.getAttribute('aria-valuetext')?.includes(wanted),
      text,
    );
  const overflows = (page: Page) =>
    page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);

  it('lists runs and follows one that trains', async () => {
    const release = lockOrRefuse(b, 'trains');
    await open(address, desktop, async (page) => {
      const list = page.getByRole('navigation', { name: 'Runs' }).getByRole('listitem');
      expect(await list.count()).toBe(2);
      expect((await list.allInnerTexts())[0]).toMatch(
        /a\s+✓ finished step 20 of 20\s+2.56k tokens · loss 2.2 · validation 2.3/,
      );
      expect((await list.allInnerTexts())[1]).toMatch(/▶ training step 10 of 40/);
      expect(await page.getByRole('figure').count()).toBe(6);
      await page.getByText('How far each layer looks').click();
      expect(await page.getByRole('figure', { name: 'layer 0' }).count()).toBe(1);
      await page.getByText('How far each layer looks').click();
      await isTold(page, 'last values: a 2.2, b 2.4');
      appendSteps(b, 11, 16, 0.01);
      await isTold(page, 'a 2.2, b 2.25');
      expect((await list.allInnerTexts())[1]).toMatch(/training step 16 of 40/);
      release();
      await list.nth(1).getByText('stopped').waitFor();
    });
  });

  it('keeps what is chosen in the address', async () => {
    await open(address, desktop, async (page) => {
      await page.getByRole('radio', { name: 'tokens' }).check();
      await page.getByRole('slider', { name: 'smoothing' }).fill('0.6');
      await page.getByRole('checkbox', { name: 'logarithmic y' }).check();
      await page.getByRole('checkbox', { name: 'leave out outliers' }).check();
      await page.getByRole('checkbox', { name: 'b', exact: true }).uncheck();
      const hash = await page.evaluate(() => location.hash);
      expect(Object.fromEntries(new URLSearchParams(hash.slice(1)))).toEqual({
        ...{ x: 'tokens', smoothing: '0.6', logy: '1', cut: '1', runs: a },
      });
      const before = await told(page);
      expect(before).toMatch(/^last values: a 2\.\d+$/);
      await page.reload();
      await isTold(page, before!);
      expect(await page.getByRole('slider', { name: 'smoothing' }).inputValue()).toBe('0.6');
      expect(await page.getByText('logarithmic, by tokens').count()).toBe(8);
      await page.getByRole('navigation').getByRole('button', { name: 'none' }).click();
      await page.getByText('Choose runs in the list').waitFor();
      expect(await page.evaluate(() => location.hash)).toContain('runs=');
    });
  });

  it('leaves outliers out of the scale', async () => {
    await open(address, desktop, async (page) => {
      const picture = (i: number) =>
        page.evaluate((at) => document.querySelectorAll<HTMLCanvasElement>('.plot canvas')[at]!.toDataURL(), i);
      const [norm, rate] = [await picture(3), await picture(2)];
      await page.getByRole('checkbox', { name: 'leave out outliers' }).check();
      await expect.poll(() => picture(3)).not.toBe(norm); // a step of 400 among those below 1
      expect(await picture(2)).toBe(rate);
    });
  });

  it('is read and zoomed by the keyboard, and by the mouse', async () => {
    await open(address, desktop, async (page) => {
      await loss(page).focus();
      await page.keyboard.press('Home');
      await isTold(page, 'at 1: a 6, b 6');
      await page.keyboard.press('End');
      await page.keyboard.press('+');
      await page.getByRole('button', { name: 'show all of the steps' }).waitFor();
      expect(await page.evaluate(() => location.hash)).toMatch(/zoom=15\.\d+%2C20$/);
      await page.keyboard.press('Escape');
      await isTold(page, 'last values');
      expect(await page.evaluate(() => location.hash)).toBe('');
      const box = (await page.locator('.u-over').first().boundingBox())!;
      const y = box.y + box.height / 2;
      await page.mouse.move(box.x + 0.25 * box.width, y);
      await page.mouse.down();
      await page.mouse.move(box.x + 0.75 * box.width, y, { steps: 5 });
      await page.mouse.up();
      await page.getByRole('button', { name: 'show all of the steps' }).click();
      expect(await page.evaluate(() => location.hash)).toBe('');
      await page.getByRole('tab', { name: 'Curves' }).focus();
      await page.keyboard.press('ArrowRight');
      await page.getByRole('tabpanel', { name: 'Configuration' }).waitFor();
    });
  });

  it('shows configurations, samples, evaluations and checkpoints side by side', async () => {
    await open(address, desktop, async (page) => {
      const show = async (name: string) => {
        await page.getByRole('tab', { name }).click();
        return (await page.getByRole('tabpanel', { name }).allInnerTexts())[0]!;
      };
      const rows = (text: string) => text.split('\n').map((line) => line.replaceAll('\t', ' ').trim());
      const configs = rows(await show('Configuration'));
      expect(configs).toEqual(expect.arrayContaining(['stages.0.steps 20 40', 'stages.0.schedule.peak 0.003 0.01']));
      expect(configs.join()).not.toContain('batchTokens');
      expect(await show('Samples')).toMatch(/Once upon a <b>time<\/b> at 20[\s\S]*Once upon a <b>time<\/b> at 10/);
      await page.getByRole('slider', { name: 'step' }).fill('0');
      await page.getByText('a, step 5').or(page.getByText('b, step 5')).first().waitFor();
      expect(rows(await show('Evaluations'))).toContain('128 tokens, perplexity 11.28 at step 20 –');
      const checkpoints = await show('Checkpoints');
      expect(checkpoints).toMatch(/step-00000020\s+20 KiB[^\n]*\s+latest/);
      expect(checkpoints).toMatch(/all\s+4\s+45 KiB/);
    });
  });

  it('shows where the heads of a checkpoint look on a text, and how it goes on', async () => {
    await open(
      address,
      desktop,
      async (page) => {
        await page.getByRole('tab', { name: 'Attention' }).click();
        const checkpoint = page.getByRole('combobox', { name: 'checkpoint' });
        const options = await checkpoint.getByRole('option').allInnerTexts();
        expect(options).toEqual([
          'a, step 10 (best)',
          'a, step 20 (latest)',
          'b, step 5 (best)',
          'b, step 10 (latest)',
        ]);
        await checkpoint.selectOption('b, step 5 (best)');
        await page.getByRole('textbox', { name: 'text' }).fill('Once <b>upon</b>');
        await page.getByRole('button', { name: 'Look' }).click();
        await page.getByText('Once <b>upon</b> and so <i>on</i>').waitFor();
        expect(await page.getByText('runs/b/checkpoints/step-00000005').textContent()).toContain('stick-breaking');
        expect(await page.getByRole('row', { name: 'layer 1' }).textContent()).toMatch(
          /2\.5\s*left 25 %\s*21\.0\s*left 25 %/,
        );
        await page.getByRole('button', { name: 'layer 1' }).click();
        await page.getByRole('heading', { name: 'Layer 1' }).waitFor();
        await page.getByRole('img', { name: 'head 1' }).locator('.sb-cell').hover();
        await page.getByText('a (1) gives b (2) 0.15').first().waitFor();
        await page.getByRole('textbox', { name: 'text' }).fill('fail');
        await page.getByRole('button', { name: 'Look' }).click();
        await page.getByText('The weights are damaged.').waitFor();
      },
      [/422/],
    );
  });

  it('fits a phone in the dark', async () => {
    await open(address, { ...phone, colorScheme: 'dark' }, async (page) => {
      for (const tab of ['Curves', 'Configuration', 'Samples', 'Evaluations', 'Checkpoints', 'Attention']) {
        await page.getByRole('tab', { name: tab }).click();
        expect(await overflows(page), tab).toBe(false);
      }
      expect(await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).toBe('rgb(22, 24, 28)');
      expect(await page.getByRole('listitem').first().isVisible()).toBe(false); // the list is folded up
    });
  });

  it('is the same as a file, which asks for nothing', async () => {
    const readers = [a, b].map((name) => new RunReader(name));
    for (const reader of readers) reader.refresh();
    const file = join(base, 'report.html');
    const runs = readers.map((reader) => reader.whole());
    writeFileSync(file, renderReport(runs, 'a & b'));
    await open(`file://${file}#x=time&smoothing=0.5`, desktop, async (page) => {
      expect(await page.title()).toBe('a & b');
      expect(await page.getByRole('slider', { name: 'Training loss (nats per token) by time worked' }).count()).toBe(1);
      await page.getByRole('radio', { name: 'tokens' }).check();
      expect(await page.evaluate(() => location.hash)).toBe('#x=tokens&smoothing=0.5');
      await page.getByRole('tab', { name: 'Samples' }).click();
      await page.getByText('Once upon').first().waitFor();
    });
  });
});
