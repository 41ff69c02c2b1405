import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tokenizer } from '@stickbreaking/data';
import { afterAll, expect, it } from 'vitest';
import { heldOutTokens } from './held_out.js';

const folder = mkdtempSync(join(tmpdir(), 'held-out-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A token for each character. */
const tokenizer = {
  eosId: 0,
  endTexts: ['<|endoftext|>'],
  encode: (text: string) => Array.from(text, (character) => character.charCodeAt(0)),
} as unknown as Tokenizer;

it('reads no more of held-out text than it needs', async () => {
  const path = join(folder, 'text.jsonl');
  const lines = Array.from({ length: 2e4 }, (_, i) => `{"text": "d${i}"}\n`).join('');
  writeFileSync(path, `${lines}no JSON\n`);
  const found = await heldOutTokens({ path }, tokenizer, 8);
  expect([...found]).toEqual([...tokenizer.encode('d0'), 0, ...tokenizer.encode('d1'), 0, ...tokenizer.encode('d2')]);
  await expect(heldOutTokens({ path }, tokenizer, 1e6)).rejects.toThrow(/text\.jsonl.*20001/);
});
