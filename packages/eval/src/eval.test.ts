import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  detokenizeWikiText,
  evaluateDocuments,
  evaluateStream,
  parseLengths,
  rollingWindows,
  wikiTextPages,
} from './index.js';
import { renderReport, writePictures } from './report/report.js';

/** A tokenizer of one token a character, and an end token. */
const eosId = 0;
const tokenizer = {
  eosId,
  encode: (text: string) => Array.from(text, (character) => character.charCodeAt(0)),
  encodeBatch: async (texts: readonly string[]) => texts.map((text) => tokenizer.encode(text)),
  decode: (ids: ArrayLike<number>) => String.fromCharCode(...Array.from(ids)),
};

/** A scorer that knows no context: a token's loss is a function of the token. */
const contextFree = async ({ targets }: { targets: ArrayLike<number> }) =>
  Array.from(targets, (target) => (target === -1 ? 0 : 1 + (target % 7) / 10));

describe('parseLengths', () => {
  it('doubles a range and takes a list as it is', () => {
    expect(parseLengths('2048..65536')).toEqual([2048, 4096, 8192, 16384, 32768, 65536]);
    expect(parseLengths('3..13')).toEqual([3, 6, 12]);
    expect(parseLengths('1000,3000')).toEqual([1000, 3000]);
  });

  it.each(['4096..2048', '0..4', 'abc', '10,', '-4', '1.5', '0'])('refuses %s', (text) => {
    expect(() => parseLengths(text)).toThrow(/^--lengths .*expected a range/);
  });
});

describe('the stream protocol', () => {
  const documents = [
    'the quick brown fox jumps over the lazy dog',
    'a second document of the stream, a bit longer than that',
  ];

  it('scores the same tokens with the same total at every length, for a model without context', async () => {
    const results = await evaluateStream(contextFree, documents, { lengths: [1, 4, 16, 32], tokenizer });
    const stream = [...tokenizer.encode(documents[0]!), eosId, ...tokenizer.encode(documents[1]!), eosId];
    const targets = stream.slice(1, 97);
    const expected = targets.reduce((total, target) => total + 1 + (target % 7) / 10, 0) / 96;
    for (const result of results) {
      expect(result.tokens).toBe(96);
      expect(result.nll).toBeCloseTo(expected, 10);
      expect(result.perplexity).toBeCloseTo(Math.exp(expected), 8);
    }
    // By hand: the 96 targets are the first document without its 't', an end token, and 53 characters of the second.
    expect(results[0]!.words).toBe(9 + 11);
    expect(results[0]!.bytes).toBe(42 + 53);
    expect(results[0]!.bitsPerByte).toBeCloseTo((expected * 96) / Math.LN2 / 95, 8);
    expect(results[0]!.wordPerplexity / Math.exp((expected * 96) / 20)).toBeCloseTo(1, 8);
  });

  it('gives the loss by position, and each window its own context', async () => {
    const starts: number[] = [];
    const byPosition = async ({ tokens, cuSeqlens }: { tokens: ArrayLike<number>; cuSeqlens: ArrayLike<number> }) => {
      starts.push(cuSeqlens.length - 1);
      return Array.from({ length: tokens.length }, (_, i) => i % 8);
    };
    const [result] = await evaluateStream(byPosition, documents, { lengths: [8], tokenizer });
    expect(starts).toEqual([12]);
    expect(result!.lossByPosition!.map(({ begin, nll }) => [begin, nll])).toEqual([
      [0, 0],
      [1, 1],
      [2, 2.5],
      [4, 5.5],
    ]);
  });

  it('says when the text is too short for a window', async () => {
    await expect(evaluateStream(contextFree, ['short'], { lengths: [4, 64], tokenizer })).rejects.toThrow(
      /has 6 tokens, too few for one window of 64/,
    );
  });
});

describe('the document protocol', () => {
  it('rolls as lm-evaluation-harness does', () => {
    expect(rollingWindows([1, 2, 3, 4, 5, 6, 7], 3, 99)).toEqual([
      { tokens: [99, 1, 2], targets: [1, 2, 3] },
      { tokens: [3, 4, 5], targets: [4, 5, 6] },
      // The last window keeps three tokens of context and scores the one that is left.
      { tokens: [4, 5, 6], targets: [-1, -1, 7] },
    ]);
    expect(rollingWindows([1], 8, 99)).toEqual([{ tokens: [99], targets: [1] }]);
  });

  it('gives a uniform model the vocabulary as its perplexity, by token, word and byte', async () => {
    const uniform = async ({ targets }: { targets: ArrayLike<number> }) =>
      Array.from(targets, (t) => (t === -1 ? 0 : Math.log(50)));
    const documents = [{ text: 'ab cd', original: 'a b  c d' }, { text: 'efg' }];
    for (const result of await evaluateDocuments(uniform, documents, { lengths: [2, 100], tokenizer })) {
      expect(result.tokens).toBe(8);
      expect(result.perplexity).toBeCloseTo(50, 8);
      expect(result.wordPerplexity / 50 ** (8 / 5)).toBeCloseTo(1, 8);
      expect(result.bitsPerByte).toBeCloseTo((8 * Math.log2(50)) / 11, 8);
    }
  });
});

describe('WikiText', () => {
  it('is split at headings of the first level and put back into running text', () => {
    const raw =
      ' \n = Robert Boulter = \n \n Robert is an English film @-@ star ( born 1980 ) . He \'s 1 @,@ 000 . \n = = Career = = \n Said " so " . \n = Next = \n Page . \n';
    const pages = wikiTextPages(raw);
    expect(pages.map((page) => page.split('\n')[0])).toEqual([' = Robert Boulter = ', ' = Next = ']);
    expect(detokenizeWikiText(pages[0]!)).toContain("Robert is an English film-star (born 1980). He's 1,000.");
    expect(detokenizeWikiText(pages[0]!)).toContain('\n== Career ==\nSaid "so".');
  });
});

describe('the report', () => {
  it('tells what disagrees with the paper before what agrees, in words', () => {
    const findings = [
      { expected: 'It falls', source: 'figure 5', found: 'it falls', verdict: 'agrees' },
      { expected: 'It rises', source: 'figure 5', found: 'it does not', verdict: 'disagrees' },
    ] as const;
    const html = renderReport({ title: 'Study', blocks: [{ kind: 'findings', findings }] });
    expect(html).toContain('Of 2 expectations, 1 found otherwise here, 1 found as in the paper.');
    expect(html.indexOf('✗ disagrees')).toBeLessThan(html.indexOf('✓ agrees'));
    expect(html.indexOf('✗ disagrees')).toBeGreaterThan(0);
  });

  it('writes its pictures as SVG files of their own, small and with their own style', () => {
    const folder = mkdtempSync(join(tmpdir(), 'pictures-'));
    const points = Array.from({ length: 60 }, (_, x) => ({ x, y: Math.sqrt(x), low: x === 0 ? 0 : 1, high: 8 }));
    const curves = Array.from({ length: 11 }, (_, i) => ({ name: `arm ${i}`, points }));
    const labels = Array.from({ length: 48 }, (_, i) => `t${i}`);
    const names = writePictures(folder, {
      title: 'Study',
      blocks: [
        { kind: 'curves', name: 'loss', caption: '', xLabel: 'x', yLabel: 'y', curves },
        {
          kind: 'row',
          blocks: [
            {
              ...{ kind: 'matrix', name: 'attention', caption: '', rows: labels, columns: labels },
              ...{ rowLabel: 'query', columnLabel: 'key', marked: [{ row: 3, column: 1, label: 'here' }] },
              values: Float32Array.from({ length: 48 * 48 }, (_, i) => (i % 48 <= i / 48 ? 0.5 : 0)),
            },
          ],
        },
      ],
    });
    expect(names).toEqual(['loss', 'attention']);
    for (const name of names) {
      const svg = readFileSync(join(folder, `${name}.svg`), 'utf8');
      expect(svg).toMatch(/^<\?xml[^>]*>\n<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
      expect(svg).toContain('<style>');
      expect(svg.length).toBeLessThan(500_000);
    }
    rmSync(folder, { recursive: true });
  });

  it('is one file without links to elsewhere, with curves, hover texts and escaped words', () => {
    const html = renderReport({
      title: 'A < B',
      blocks: [
        { kind: 'facts', facts: [['tokens', '3']] },
        { kind: 'table', columns: ['length', 'ppl'], rows: [[256, 3.2]] },
        {
          kind: 'curves',
          caption: 'Perplexity',
          xLabel: 'length',
          yLabel: 'perplexity',
          xLog2: true,
          yLog: true,
          mark: { x: 256, label: 'trained' },
          curves: [
            {
              name: 'stick-breaking',
              points: [
                { x: 256, y: 30 },
                { x: 512, y: 28 },
              ],
            },
            {
              name: 'RoPE',
              points: [
                { x: 256, y: 30 },
                { x: 512, y: 300 },
              ],
            },
          ],
        },
      ],
    });
    expect(html).toContain('A &lt; B');
    // At each length the values of both curves, highest first.
    expect(html.match(/aria-label="length: \d+; [^"]*"/g)).toEqual([
      'aria-label="length: 256; stick-breaking: 30; RoPE: 30"',
      'aria-label="length: 512; RoPE: 300; stick-breaking: 28"',
    ]);
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|<link/);
  });
});
