/// <reference lib="dom" />
/** The report in a real browser, as a reader meets it. Skipped where no Chromium is installed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromiumFlags, chromiumPath, tellIfMissing } from '../../../../scripts/chromium.js';
import { type Report, writeReport } from './report.js';

tellIfMissing('The report');

const folder = mkdtempSync(join(tmpdir(), 'report-'));
const file = join(folder, 'report.html');

const names = [
  'stick-breaking',
  'RoPE',
  'RoPE, dynamic NTK',
  'ALiBi',
  'FIRE',
  'NoPE',
  'window L/4',
  'window L/2',
  'window L',
];
const tokens = 'B 6 P 4 E 3 X 1 Z 2 E 2 B 1 E 5 B 4'.split(' ');

const report: Report = {
  title: 'A study as it is read',
  blocks: [
    {
      kind: 'findings',
      findings: [
        { expected: 'It keeps falling.', source: 'figure 5', found: '3.10 to 2.90', verdict: 'agrees' },
        { expected: 'It rises.', source: 'figure 5', found: '3.20 to 3.15', verdict: 'disagrees' },
      ],
    },
    {
      ...{ kind: 'curves', caption: 'Loss by length.', xLabel: 'context length (tokens)', yLabel: 'loss', xLog2: true },
      mark: { x: 512, label: 'training length' },
      curves: names.map((name, i) => ({
        name,
        points: [256, 512, 1024, 2048].map((x, k) => ({
          x,
          y: 3 + 0.1 * i * k,
          low: 2.9 + 0.1 * i * k,
          high: 3.2 + 0.1 * i * k,
        })),
      })),
    },
    {
      kind: 'row',
      blocks: [1, 2].map((layer) => ({
        ...{ kind: 'matrix', caption: `Layer ${layer}`, rowLabel: 'query', columnLabel: 'key' },
        ...{ rows: tokens, columns: tokens, marked: [{ row: 10, column: 5, label: 'the answer' }] },
        values: tokens.flatMap((_, j) => tokens.map((__, i) => (i < j ? 1 / (1 + j - i) : 0))),
      })),
    },
    {
      kind: 'table',
      columns: ['loss', ...Array.from({ length: 12 }, (_, i) => `${2 ** i}`)],
      rows: [['a', ...new Array(12).fill('3.1415')]],
    },
    {
      kind: 'facts',
      facts: [
        ['command', 'sb-study --config configs/studies/a-rather-long-name-of-a-study.yaml output=somewhere/else'],
      ],
    },
    { kind: 'code', summary: 'Configuration', text: '{ "study": "mqrar" }' },
  ],
};

describe.skipIf(!chromiumPath)('the report in a browser', () => {
  let browser: Browser;

  beforeAll(async () => {
    await writeReport(file, report);
    browser = await chromium.launch({ executablePath: chromiumPath!, args: [...chromiumFlags, '--disable-gpu'] });
  });

  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(options: BrowserContextOptions, use: (page: Page) => Promise<void>): Promise<void> {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const requests: string[] = [];
    const problems: string[] = [];
    page.on('request', (request) => requests.push(request.url()));
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => problems.push(message.text()));
    await page.goto(`file://${file}`);
    await use(page);
    expect(requests).toEqual([`file://${file}`]);
    expect(problems).toEqual([]);
    await context.close();
  }

  const desktop = { viewport: { width: 1100, height: 900 } };
  const phone = { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

  /** Red, green and blue of a CSS colour. */
  const channels = (colour: string) => (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
  const luminance = (colour: string) => {
    const [r = 0, g = 0, b = 0] = channels(colour).map((value) =>
      value <= 10.31 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  /** As WCAG defines it; 4.5 is its bar for text. */
  const contrast = (a: string, b: string) => {
    const [high = 0, low = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const visibility = (one: Locator) => one.evaluate((element) => getComputedStyle(element).visibility);
  const colourOf = (page: Page, selector: string, property: string) =>
    page
      .locator(selector)
      .first()
      .evaluate((element, name) => getComputedStyle(element).getPropertyValue(name), property);

  it('shows the values of all curves where the pointer is, and hides them elsewhere', () =>
    open(desktop, async (page) => {
      const column = page.locator('.sb-column').nth(2);
      const tip = column.locator('.sb-tip');
      expect(await tip.evaluate((element) => getComputedStyle(element).visibility)).toBe('hidden');
      await column.locator('rect').first().hover();
      expect(await tip.evaluate((element) => getComputedStyle(element).visibility)).toBe('visible');
      const said = await tip.locator('text').allTextContents();
      expect(said[0]).toBe('context length (tokens): 1024');
      expect(said.slice(1)).toHaveLength(names.length);
      expect(said).toContain('window L: 4.6 (4.5–4.8)');
      const [box, svg] = await Promise.all([
        tip.locator('rect').boundingBox(),
        page.locator('svg').first().boundingBox(),
      ]);
      expect(box!.x).toBeGreaterThanOrEqual(svg!.x);
      expect(box!.x + box!.width).toBeLessThanOrEqual(svg!.x + svg!.width + 1);
      await page.mouse.move(5, 5);
      expect(await tip.evaluate((element) => getComputedStyle(element).visibility)).toBe('hidden');
    }));

  it('gives the same values to the keyboard', () =>
    open(desktop, async (page) => {
      await page.keyboard.press('Tab');
      const focused = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
      expect(focused).toMatch(/^context length \(tokens\): 256; .*stick-breaking: 3/);
      const shown = page.locator('.sb-column:focus .sb-tip');
      expect(await shown.evaluate((element) => getComputedStyle(element).visibility)).toBe('visible');
    }));

  it('fits a phone: nothing but wide tables scrolls sideways, a tap shows values', () =>
    open(phone, async (page) => {
      const [scroll, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(scroll).toBeLessThanOrEqual(width!);
      const small = await page.locator('svg text').evaluateAll((texts) =>
        (texts as unknown as SVGTextElement[])
          .filter((text) => text.getBoundingClientRect().height > 0)
          .map((text) => text.getScreenCTM()!.a * Number.parseFloat(getComputedStyle(text).fontSize))
          .filter((size) => size > 0 && size < 11.5),
      );
      expect(small).toEqual([]);
      const column = page.locator('.for-narrow .sb-column').nth(1);
      await column.locator('rect').first().tap();
      expect(await visibility(column.locator('.sb-tip'))).toBe('visible');
      const cell = page.locator('.sb-point:visible').nth(3);
      await cell.locator('rect').tap();
      expect(await visibility(cell.locator('.sb-said'))).toBe('visible');
      expect(await visibility(column.locator('.sb-tip'))).toBe('hidden');
    }));

  it('draws a picture as wide as its text, with names beside the ends of its curves', () =>
    open(desktop, async (page) => {
      const svg = page.locator('.for-wide svg').first();
      expect((await svg.boundingBox())!.width).toBe(788);
      const found = await svg
        .locator('.sb-names text')
        .evaluateAll((texts) => texts.map((text) => ({ name: text.textContent, y: Number(text.getAttribute('y')) })));
      // The curves of the report rise in the order of their names.
      expect(found.sort((a, b) => b.y - a.y).map(({ name }) => name)).toEqual(names);
      for (const [i, { y }] of found.slice(1).entries()) expect(found[i]!.y - y).toBeGreaterThanOrEqual(20);
    }));

  it.each(['light', 'dark'] as const)('is readable in %s mode', (colorScheme) =>
    open({ ...desktop, colorScheme }, async (page) => {
      const paper = await colourOf(page, 'body', 'background-color');
      expect(luminance(paper) < 0.2).toBe(colorScheme === 'dark');
      for (const selector of ['h1', 'td', 'figcaption', '.findings strong'])
        expect(contrast(await colourOf(page, selector, 'color'), paper), selector).toBeGreaterThan(4.5);
      expect(contrast(await colourOf(page, 'svg text', 'fill'), paper)).toBeGreaterThan(4.5);
      expect(contrast(await colourOf(page, '.sb-cell', 'fill'), paper)).toBeGreaterThan(3);
      for (const stroke of await page
        .locator('.for-wide .sb-names line')
        .evaluateAll((lines) => lines.map((line) => getComputedStyle(line).stroke)))
        expect(contrast(stroke, paper), stroke).toBeGreaterThan(3);
    }),
  );

  it('tells curves apart without colour: no two share dash and symbol', () =>
    open(desktop, async (page) => {
      const looks = await page
        .locator('svg')
        .first()
        .locator('.sb-names line:not(.sb-leader)')
        .evaluateAll((lines) =>
          lines.map((line) => `${line.getAttribute('stroke-dasharray')} ${line.nextElementSibling?.getAttribute('d')}`),
        );
      expect(looks).toHaveLength(names.length);
      expect(new Set(looks).size).toBe(names.length);
      const verdicts = await page.locator('.findings strong').allTextContents();
      expect(verdicts).toEqual(['✗ disagrees', '✓ agrees']);
    }));

  it('prints in black on white, pictures whole', () =>
    open({ ...desktop, colorScheme: 'dark' }, async (page) => {
      await page.emulateMedia({ media: 'print', colorScheme: 'light' });
      expect(await colourOf(page, 'body', 'background-color')).toBe('rgb(255, 255, 255)');
      expect(await colourOf(page, 'figure', 'break-inside')).toBe('avoid');
      const pdf = await page.pdf({ format: 'A4' });
      expect(pdf.length).toBeGreaterThan(10_000);
    }));

  it('draws something: the screenshots of the two modes differ and are not of one colour', async () => {
    const shots: Buffer[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      await open({ ...desktop, colorScheme }, async (page) => {
        const path =
          process.env.REPORT_SCREENSHOTS && join(process.env.REPORT_SCREENSHOTS, `report-${colorScheme}.png`);
        shots.push(await page.screenshot({ fullPage: true, ...(path ? { path } : {}) }));
      });
    }
    for (const shot of shots) expect(shot.length).toBeGreaterThan(40_000);
    expect(shots[0]!.equals(shots[1]!)).toBe(false);
  });
});
