import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { type LlamaConfigInput, LlamaModel } from '@stickbreaking/model';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { main as generate } from '../generate_cli.js';
import { runHere } from '../run_here.fixture.js';
import { AttentionLooker } from './look.js';

const folder = mkdtempSync(join(tmpdir(), 'look-'));
const sizes = { vocabSize: 280, hiddenSize: 16, intermediateSize: 24, numLayers: 2, numHeads: 2, contextLength: 128 };

beforeAll(async () => {
  await selectBackend('cpu');
  const text = join(folder, 'text.txt');
  writeFileSync(text, 'the quick brown fox jumps over the lazy dog\n'.repeat(50));
  await trainTokenizer({ sources: [{ path: text }], vocabSize: 270, output: join(folder, 'tokenizer.json') });
  const make = (name: string, attention: LlamaConfigInput['attention']) => {
    const model = LlamaModel.create({ ...sizes, attention, initializerRange: 0.3 }, { seed: 1 });
    model.save(join(folder, name));
    model.dispose();
    cpSync(join(folder, 'tokenizer.json'), join(folder, name, 'tokenizer.json'));
  };
  make('sticks', 'stick-breaking');
  make('rope', 'softmax+rope');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('says where every head looks, what it leaves, and how the text goes on', async () => {
  const looker = await AttentionLooker.open(join(folder, 'sticks'), 'cpu');
  const look = await looker.look('the quick fox', { layer: 1, newTokens: 5 });
  expect(look).toMatchObject({ leavesRemainder: true, attention: { kind: 'stick-breaking' }, layer: 1, cut: false });
  expect(look.reach.map((heads) => heads.length)).toEqual([2, 2]);
  for (const { distance, remainder } of look.reach.flat()) {
    expect(distance).toBeGreaterThanOrEqual(1); // never the token itself
    expect(distance).toBeLessThan(look.tokens.length);
    expect(remainder).toBeGreaterThan(1 / look.tokens.length); // the first token leaves all
    expect(remainder).toBeLessThan(1);
  }
  expect(look.pictures).toHaveLength(2);
  expect(look.pictures[0]).toMatch(/^<svg[^>]*>.*>\S+ \(2\) gives no key 0\.\d+<\/text>/s);
  expect(look.pictures[0]).not.toBe((await looker.look('the quick fox', { layer: 0, newTokens: 5 })).pictures[0]);
  const args = ['--checkpoint', join(folder, 'sticks'), '--prompt', 'the quick fox', '--max-new-tokens', '5'];
  const { stdout } = await runHere(generate, ...args, '--temperature', '0', '--backend', 'cpu');
  expect(`the quick fox${look.continuation}\n`).toBe(stdout);
  await expect(looker.look('a', { layer: 2 })).rejects.toThrow('The model has no layer 2: its 2 layers are 0 to 1.');
  await expect(looker.look('')).rejects.toThrow('There is no text');
  looker.dispose();
  await expect(looker.look('a')).rejects.toThrow('is closed');
});

it('draws the beginning of a long text, and no remainder where the attention leaves none', async () => {
  const looker = await AttentionLooker.open(join(folder, 'rope'), 'cpu');
  const look = await looker.look('lazy dogs '.repeat(40), { newTokens: 1 });
  expect(look).toMatchObject({ leavesRemainder: false, cut: true });
  expect(look.tokens).toHaveLength(64);
  expect(look.reach.flat().every(({ remainder }) => remainder === 0)).toBe(true);
  looker.dispose();
});
