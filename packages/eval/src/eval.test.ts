import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { evaluateDocuments, evaluateStream, parseLengths, rollingWindows } from './index.js';
import { summariseFindings } from './report/findings.js';
import { renderReport, writePictures } from './report/report.js';

/** A tokenizer of one token a character, and an end token. */
const eosId = 0;
const tokenizer = {
  eosId,
  beginId: eosId,
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

  const lossOf = (token: number) => 1 + (token % 7) / 10;
  const total = (tokens: readonly number[]) => tokens.reduce((sum, token) => sum + lossOf(token), 0);

  it('scores the same tokens with the same total at every length, for a model without context', async () => {
    const results = await evaluateStream(contextFree, documents, { lengths: [1, 4, 16, 32], tokenizer });
    // By hand: the 96 targets are the first document, an end token, and 52 characters of the second.
    const text = [...tokenizer.encode(documents[0]!), ...tokenizer.encode(documents[1]!).slice(0, 52)];
    expect(text).toHaveLength(95);
    for (const result of results) {
      expect([result.tokens, result.endTokens, result.words, result.bytes]).toEqual([96, 1, 9 + 11, 95]);
      expect(result.nll).toBeCloseTo((total(text) + lossOf(eosId)) / 96, 10);
      expect(result.perplexity).toBeCloseTo(Math.exp(result.nll), 8);
      // An end token has no bytes and is no word: its loss counts in neither.
      expect(result.textNll).toBeCloseTo(total(text), 8);
      expect(result.bitsPerByte).toBeCloseTo(total(text) / Math.LN2 / 95, 8);
      expect(result.wordPerplexity / Math.exp(total(text) / 20)).toBeCloseTo(1, 8);
    }
  });

  it('gives words and bytes their documents protocol’s figures, however short documents are', async () => {
    const short = Array.from({ length: 64 }, (_, i) => String.fromCharCode(97 + (i % 26)));
    const [stream] = await evaluateStream(contextFree, short, { lengths: [8], tokenizer });
    const each = short.map((text) => ({ text }));
    const [documents] = await evaluateDocuments(contextFree, each, { lengths: [8], tokenizer });
    expect([stream!.tokens, stream!.endTokens, documents!.tokens, documents!.endTokens]).toEqual([128, 64, 64, 0]);
    expect(stream!.bitsPerByte).toBeCloseTo(documents!.bitsPerByte, 10);
    expect(stream!.wordPerplexity).toBeCloseTo(documents!.wordPerplexity, 8);
    expect(stream!.nll).not.toBeCloseTo(documents!.nll, 3);
  });

  it('begins each document from the beginning token where there is one, which is never scored', async () => {
    const seen: [number, number][] = [];
    const watch = async (batch: { tokens: ArrayLike<number>; targets: ArrayLike<number> }) => {
      for (let i = 0; i < batch.tokens.length; i++) seen.push([batch.tokens[i]!, batch.targets[i]!]);
      return contextFree(batch);
    };
    const withBegin = { ...tokenizer, beginId: 1 };
    const [result] = await evaluateStream(watch, ['a', 'bc'], { lengths: [6], tokenizer: withBegin });
    const [a, b, c] = tokenizer.encode('abc') as [number, number, number];
    expect(seen).toEqual([
      [1, a],
      [a, 0],
      [0, -1],
      [1, b],
      [b, c],
      [c, 0],
    ]);
    expect([result!.tokens, result!.endTokens, result!.bytes]).toEqual([5, 2, 3]);
    expect(result!.nll).toBeCloseTo((total([a, b, c]) + 2 * lossOf(0)) / 5, 10);
    seen.length = 0;
    await evaluateDocuments(watch, [{ text: 'a' }], { lengths: [6], tokenizer: withBegin });
    expect(seen).toEqual([[1, a]]);
  });

  it('counts words and bytes of a long document as of a short one', async () => {
    const long = 'ab  cd\n'.repeat(30_000);
    const lengths = [30_000 * 7];
    const [result] = await evaluateStream(contextFree, [long], { lengths, tokenizer });
    expect([result!.words, result!.bytes]).toEqual([long.split(/\s+/).length, long.length]);
  });

  it('gives the loss by position, and each window its own context', async () => {
    const starts: number[] = [];
    const byPosition = async ({ tokens, cuSeqlens }: { tokens: ArrayLike<number>; cuSeqlens: ArrayLike<number> }) => {
      starts.push(cuSeqlens.length - 1);
      return Array.from({ length: tokens.length }, (_, i) => i % 8);
    };
    const [result] = await evaluateStream(byPosition, documents, { lengths: [8], tokenizer });
    expect(starts).toEqual([12]);
    expect(result!.lossByPosition.map(({ begin, nll }) => [begin, nll])).toEqual([
      [0, 0],
      [1, 1],
      [2, 2.5],
      [4, 5.5],
    ]);
  });

  it('says when the text is too short for a window', async () => {
    await expect(evaluateStream(contextFree, ['short'], { lengths: [4, 64], tokenizer })).rejects.toThrow(
      'The text has 6 tokens, too few for one window of 64; give more text or shorter lengths.',
    );
    const cut = evaluateStream(contextFree, ['a text of more'], { lengths: [64], tokenizer, maxTokens: 1 });
    await expect(cut).rejects.toThrow(
      'Of the text maxTokens takes 1, too few for one window of 64; give a larger maxTokens or shorter lengths.',
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

  it('gives the loss by position, of every token once', async () => {
    const byPosition = async ({ tokens, cuSeqlens }: { tokens: ArrayLike<number>; cuSeqlens: ArrayLike<number> }) =>
      Array.from({ length: tokens.length }, (_, i) => i - Array.from(cuSeqlens).findLast((begin) => begin <= i)!);
    // Windows of 4: abcd, efg after one token of context more, hi.
    const texts = [{ text: 'abcdefg' }, { text: 'hi' }];
    const [result] = await evaluateDocuments(byPosition, texts, { lengths: [4], tokenizer });
    expect(result!.lossByPosition).toEqual([
      { begin: 0, end: 1, nll: 0, tokens: 2 },
      { begin: 1, end: 2, nll: 1, tokens: 3 },
      { begin: 2, end: 4, nll: (2 + 3 + 2 + 3) / 4, tokens: 4 },
    ]);
    expect(result!.nll).toBeCloseTo(13 / 9, 10);
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

  it('sums losses over tokens, words and bytes of the originals', async () => {
    const ownNumber = async ({ targets }: { targets: ArrayLike<number> }) =>
      Array.from(targets, (target) => Math.max(0, target - 64));
    const documents = [{ text: 'AB', original: 'one two' }, { text: 'D' }];
    const done: number[] = [];
    const [result] = await evaluateDocuments(ownNumber, documents, {
      lengths: [1],
      tokenizer,
      onProgress: (progress) => done.push(progress.done, progress.total),
    });
    expect(done).toEqual([0, 3, 3, 3]);
    const { perplexity, seconds: _, lossByPosition: __, ...figures } = result!;
    expect(perplexity).toBeCloseTo(Math.exp(7 / 3), 12);
    expect(figures).toEqual({
      ...{ protocol: 'documents', length: 1, documents: 2, isPart: false },
      ...{ tokens: 3, nll: 7 / 3, wordPerplexity: Math.exp(7 / 3), bitsPerByte: 7 / Math.LN2 / 8 },
      ...{ endTokens: 0, textNll: 7, words: 3, bytes: 8 },
    });
  });

  it.each([
    [4, 1, 4, true],
    [6, 1, 4, true],
    [7, 2, 7, true],
    [9, 3, 9, false],
    [10, 3, 9, false],
  ])('scores the first documents that have %i tokens at most, whole', async (maxTokens, count, tokens, isPart) => {
    const documents = [{ text: 'ab c' }, { text: 'def' }, { text: 'gh' }];
    const results = await evaluateDocuments(contextFree, documents, { lengths: [2, 8], tokenizer, maxTokens });
    const alone = await evaluateDocuments(contextFree, documents.slice(0, count), { lengths: [2, 8], tokenizer });
    expect(results.map((one) => [one.documents, one.tokens, one.isPart])).toEqual(
      Array(2).fill([count, tokens, isPart]),
    );
    const figures = ({ seconds: _, isPart: __, ...rest }: (typeof results)[number]) => rest;
    expect(results.map(figures)).toEqual(alone.map(figures));
  });

  it('refuses a first document that does not fit, and a text without tokens', async () => {
    const evaluated = (texts: string[], maxTokens: number) =>
      evaluateDocuments(
        contextFree,
        texts.map((text) => ({ text })),
        { lengths: [8], tokenizer, maxTokens },
      );
    await expect(evaluated(['abcd', 'e'], 3)).rejects.toThrow(
      /^The first document has more than 3 tokens, .*--max-tokens/,
    );
    await expect(evaluated([''], 3)).rejects.toThrow(/^The text has no tokens to score\.$/);
  });

  it('takes long documents in pieces, and reads no more of them than it needs', async () => {
    const pieces = [
      { text: 'ab ', last: false },
      { text: ' cd', last: false },
      { text: '  ', last: true },
      { text: 'é f', original: 'é  f g' },
    ];
    const [inPieces] = await evaluateDocuments(contextFree, pieces, { lengths: [4], tokenizer });
    const whole = [{ text: 'ab  cd  ' }, pieces[3]!];
    const [together] = await evaluateDocuments(contextFree, whole, { lengths: [4], tokenizer });
    expect({ ...inPieces, seconds: 0 }).toEqual({ ...together, seconds: 0 });
    expect([together!.documents, together!.words, together!.bytes]).toEqual([2, 3 + 3, 8 + 7]);
    let read = 0;
    const endless = async function* () {
      for (; read < 100; read++) yield { text: 'x'.repeat(2 ** 18), last: read % 2 === 1 };
    };
    const [first] = await evaluateDocuments(async ({ targets }) => new Float64Array(targets.length), endless(), {
      ...{ lengths: [2 ** 18], tokenizer, maxTokens: 2 ** 19 + 1 },
    });
    expect([first!.documents, first!.tokens, first!.isPart, read]).toEqual([1, 2 ** 19, true, 3]);
  });
});

describe('the report', () => {
  it('tells what disagrees with the paper before what agrees, in words', async () => {
    const findings = [
      { expected: 'It falls', source: 'figure 5', found: 'it falls', verdict: 'agrees' },
      { expected: 'It rises', source: 'figure 5', found: 'it does not', verdict: 'disagrees' },
    ] as const;
    const html = await renderReport({ title: 'Study', blocks: [{ kind: 'findings', findings }] });
    expect(html).toContain('Of 2 expectations, 1 found otherwise here, 1 found as in the paper.');
    expect(html.indexOf('✗ disagrees')).toBeLessThan(html.indexOf('✓ agrees'));
    expect(html.indexOf('✗ disagrees')).toBeGreaterThan(0);
    expect(summariseFindings(findings.slice(0, 1))).toBe(
      'Of 1 expectation, 0 found otherwise here, 1 found as in the paper.',
    );
  });

  it('writes its pictures as SVG files of their own, small and with their own style', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pictures-'));
    const points = Array.from({ length: 60 }, (_, x) => ({ x, y: Math.sqrt(x), low: x === 0 ? 0 : 1, high: 8 }));
    const curves = Array.from({ length: 11 }, (_, i) => ({ name: `arm ${i}`, points }));
    const labels = Array.from({ length: 48 }, (_, i) => `t${i}`);
    const names = await writePictures(folder, {
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

  it('is one file without links to elsewhere, with curves, hover texts and escaped words', async () => {
    const html = await renderReport({
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
    // At each length the values of both curves, highest first; in the picture for desks and in the one for phones.
    const said = [
      'aria-label="length: 256; stick-breaking: 30; RoPE: 30"',
      'aria-label="length: 512; RoPE: 300; stick-breaking: 28"',
    ];
    expect(html.match(/aria-label="length: \d+; [^"]*"/g)).toEqual([...said, ...said]);
    // The logarithmic axis, from 28 to 300, says so and goes from a tick to a tick.
    expect(html).toContain('↑ perplexity, logarithmic');
    const ticks = /aria-label="y-axis tick label">(.*?)<\/g>/.exec(html)![1]!;
    expect(
      ticks
        .replace(/<[^>]*>/g, ' ')
        .trim()
        .split(/\s+/),
    ).toEqual(['20', '30', '50', '70', '100', '150', '200', '300']);
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|<link/);
  });
});
