import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { type LlamaConfigInput, LlamaModel } from '@stickbreaking/model';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from '../cli.js';
import { attentionMaps } from './maps.js';
import { tokenLabels } from './picture.js';

const folder = mkdtempSync(join(tmpdir(), 'attention-'));
beforeAll(() => selectBackend('cpu'));
afterAll(() => rmSync(folder, { recursive: true }));

const sizes = { vocabSize: 300, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4, numKvHeads: 2 };
const tokens = [5, 7, 7, 9, 280, 11, 5];
const build = (attention: LlamaConfigInput['attention']) =>
  LlamaModel.create({ ...sizes, initializerRange: 0.2, attention }, { seed: 3 });

describe('attentionMaps', () => {
  it('gives stick-breaking weights that leave a remainder, softmax weights that leave none', () => {
    for (const kind of ['stick-breaking', 'softmax+rope', 'softmax+alibi', 'softmax+fire', 'softmax+nope'] as const) {
      const maps = attentionMaps(build(kind), tokens);
      expect(maps.map(({ layer, head }) => `${layer}.${head}`)).toHaveLength(8);
      for (const { weights, remainder } of maps) {
        for (let j = 0; j < tokens.length; j++) {
          const row = weights.subarray(j * tokens.length, (j + 1) * tokens.length);
          const sum = row.reduce((total, weight) => total + weight, 0);
          expect(sum + remainder[j]!).toBeCloseTo(1, 5);
          const firstUnseen = kind === 'stick-breaking' ? j : j + 1;
          expect(Array.from(row.subarray(firstUnseen)).every((weight) => weight === 0)).toBe(true);
          if (kind === 'stick-breaking') expect(remainder[j]).toBeGreaterThan(j === 0 ? 0.999 : 0);
        }
      }
    }
  });

  it('leaves the result of the model as it is, and a window hides what lies before it', () => {
    const model = build({ kind: 'softmax', position: 'rope', window: 2 });
    let seen = 0;
    const observed = model.lastLogits(tokens, { observe: () => seen++ }).dataSync();
    expect(seen).toBe(2);
    expect(observed).toEqual(model.lastLogits(tokens).dataSync());
    const [map] = attentionMaps(model, tokens, { layers: [1], heads: [2] });
    expect(map!.weights[4 * tokens.length + 2]).toBe(0);
    expect(map!.weights[4 * tokens.length + 3]).toBeGreaterThan(0);
  });

  it('says which layers there are', () => {
    expect(() => attentionMaps(build('stick-breaking'), tokens, { layers: [2] })).toThrow(
      /no layer 2: its 2 layers are 0 to 1/,
    );
  });
});

it('labels tokens so that spaces and parts of characters show', () => {
  const texts: Record<number, string> = { 1: ' the', 2: '\n', 3: '\ufffd', 4: 'extraordinarily long' };
  expect(tokenLabels([1, 2, 3, 4], ([id]) => texts[id!]!)).toEqual(['␣the', '⏎', '#3', 'extraordinari…']);
});

describe('sb-eval --attention', () => {
  const checkpoint = join(folder, 'model');
  const text = 'The quick brown fox jumps over the lazy dog, and the quick dog jumps back over the fox. ';
  const output = join(folder, 'attention.html');
  const pictures = join(folder, 'pictures');
  const run = async (...args: string[]) => {
    const said: string[] = [];
    const keep = (chunk: unknown) => said.push(String(chunk)) > 0;
    const spies = [
      vi.spyOn(process.stdout, 'write').mockImplementation(keep),
      vi.spyOn(process.stderr, 'write').mockImplementation(keep),
    ];
    const code = await main([
      '--checkpoint',
      checkpoint,
      '--attention',
      '--backend',
      'cpu',
      '--output',
      output,
      ...args,
    ]);
    for (const spy of spies) spy.mockRestore();
    return { code, said: said.join('') };
  };
  beforeAll(async () => {
    build('stick-breaking').save(checkpoint);
    writeFileSync(join(folder, 'text.txt'), text.repeat(20));
    const sources = [{ path: join(folder, 'text.txt') }];
    await trainTokenizer({ sources, vocabSize: 270, output: join(checkpoint, 'tokenizer.json') });
  });

  it('draws the layers and heads asked for, into one file and into SVG files', async () => {
    const { code, said } = await run('--text', 'the fox', '--layers', '1', '--heads', '0,2..3', '--pictures', pictures);
    expect(said).toContain('Attention of 3 heads');
    expect(code).toBe(0);
    const html = readFileSync(output, 'utf8');
    expect(html.match(/<figure>/g)).toHaveLength(3);
    expect(html).toMatch(/gives no key [01]\.\d{3}</);
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|<link/);
    expect(readdirSync(pictures).sort()).toEqual([0, 2, 3].map((head) => `layer-1-head-${head}.svg`));
  });

  it('prints the weights as JSON and reads its text from a file', async () => {
    const { said } = await run('--data', join(folder, 'text.txt'), '--tokens', '5', '--json');
    const { heads, labels } = JSON.parse(said);
    expect(labels).toHaveLength(5);
    expect(heads).toHaveLength(8);
    expect(heads[0].weights.map((row: number[]) => row.length)).toEqual([5, 5, 5, 5, 5]);
  });

  it.each([
    [['--text', 'x', '--layers', '7'], /no layer 7/],
    [['--text', 'x', '--heads', '3..1'], /--heads 3..1 cannot be read/],
    [[], /needs a text/],
    [['--text', 'x', '--tokens', '0'], /--tokens is 0/],
    [['--text', 'x', '--max-tokens', '4'], /--max-tokens is for scoring; --attention draws a text/],
    [['--text', 'x', '--lengths', '8'], /--lengths is for scoring/],
  ])('refuses %j in one line', async (args, message) => {
    rmSync(output, { force: true });
    const { code, said } = await run(...args);
    expect(code).toBe(args.includes('--layers') ? 1 : 2);
    expect(said).toMatch(message);
    expect(said.trim().split('\n')).toHaveLength(1);
    expect(existsSync(output)).toBe(false);
  });
});
