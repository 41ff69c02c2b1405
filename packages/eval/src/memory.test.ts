import { parseConfig } from '@stickbreaking/model';
import { expect, it } from 'vitest';
import { checkMemory } from './memory.js';

it('refuses what memory cannot hold, but for devices that say so themselves', () => {
  const config = parseConfig({ vocabSize: 8, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 1 });
  const check = (backend: string, tokens: number) => () =>
    checkMemory(config, backend, tokens, { what: `A batch of ${tokens} tokens`, advice: 'take fewer' });
  expect(check('native', 1e12)).toThrow(
    /^A batch of 1000000000000 tokens needs about .* TiB of memory, and this machine has .*; take fewer\.$/,
  );
  expect(check('native', 1000)).not.toThrow();
  expect(check('cuda', 1e12)).not.toThrow();
});
