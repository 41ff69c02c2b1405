// Tokenizers of every family: what they begin and end documents with, streamed decoding, and files that are damaged.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PieceEncoder } from './piece_encoder.js';
import { openTokenizer, type TokenizerOptions } from './tokenizer.js';
import { checkTokenizerJson } from './tokenizer_checks.js';
import { openJs } from './tokenizer_in_js.js';
import { loadRust, openRust } from './tokenizer_libraries.js';
import { testingTokenizers } from './tokenizers.fixture.js';
import { shrinkTokenizer } from './train_tokenizer.js';

type Family = keyof typeof testingTokenizers;
const families = Object.keys(testingTokenizers) as Family[];
const directory = mkdtempSync(join(tmpdir(), 'sb-families-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const fileOf = (family: Family) => join(directory, `${family}.json`);
beforeAll(() => {
  for (const family of families) writeFileSync(fileOf(family), JSON.stringify(testingTokenizers[family]));
});
const open = (family: Family) => openTokenizer(fileOf(family), family === 'wordPiece' ? { eosToken: '[SEP]' } : {});

/** What the small vocabularies can spell. */
const words = fc
  .array(fc.constantFrom('the', 'hello', 'a', 'unaffable', 'thing', 'on', 'z.', 'é', '🙂'), {
    minLength: 1,
    maxLength: 12,
  })
  .map((list) => list.join(' '));

describe.each(families)('%s', (family) => {
  test.skipIf(!loadRust())('is encoded alike by both libraries', async () => {
    const tokenizer = open(family);
    await fc.assert(
      fc.asyncProperty(words, async (text) => {
        expect(await tokenizer.encodeBatch([text, `${text}.\n${text}`])).toEqual(
          [text, `${text}.\n${text}`].map(tokenizer.encode),
        );
      }),
      { numRuns: 30 },
    );
  });

  test('decodes a stream to the same text, whatever the prompt it goes on from', () => {
    const tokenizer = open(family);
    const anyIds = fc.array(fc.nat(tokenizer.vocabSize - 1), { maxLength: 20 });
    const streamed = (context: number[], ids: number[]) => {
      const decoder = tokenizer.streamDecoder(context);
      return ids.map((id) => decoder.push(id)).join('') + decoder.end();
    };
    fc.assert(
      fc.property(fc.oneof(words.map(tokenizer.encode), anyIds), (ids) => {
        expect(streamed([], ids)).toBe(tokenizer.decode(ids));
      }),
    );
    fc.assert(
      fc.property(words.map(tokenizer.encode), (ids) => {
        for (let cut = 0; cut <= ids.length; cut++) {
          const prompt = tokenizer.decode(ids.slice(0, cut));
          // A prompt is text: it does not end inside of a character.
          if (prompt.endsWith('\ufffd')) continue;
          expect(prompt + streamed(ids.slice(0, cut), ids.slice(cut))).toBe(tokenizer.decode(ids));
        }
      }),
      { numRuns: 30 },
    );
  });

  test('encodes the pieces of a long document as the whole', async () => {
    const tokenizer = open(family);
    await fc.assert(
      fc.asyncProperty(fc.array(words, { minLength: 1, maxLength: 4 }), async (parts) => {
        // As pieces are cut: in front of the space after a word.
        const pieces = parts.map((part, i) => ({ text: i === 0 ? part : ` ${part}`, last: i === parts.length - 1 }));
        fc.pre(parts.slice(0, -1).every((part) => /[a-zé]$/.test(part)));
        const encoder = new PieceEncoder(tokenizer);
        const ids = [...(await encoder.encode(pieces.slice(0, 1))), ...(await encoder.encode(pieces.slice(1)))];
        expect(ids.flat()).toEqual(tokenizer.encode(parts.join(' ')));
      }),
      { numRuns: 30 },
    );
  });
});

test('a word is apart from the prompt before it', () => {
  const tokenizer = open('metaspace');
  const [prompt, word] = [tokenizer.encode('he said'), tokenizer.encode('the')];
  expect(tokenizer.streamDecoder(prompt).push(word[0]!)).toBe(' the');
  expect(tokenizer.streamDecoder().push(word[0]!)).toBe('the');
});

describe('the tokens that begin and end documents', () => {
  /** Opens a family's tokenizer beside other files. */
  function beside(family: Family, files: Record<string, unknown>, options: TokenizerOptions = {}) {
    const folder = mkdtempSync(join(directory, 'beside-'));
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(testingTokenizers[family]));
    for (const [name, json] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(json));
    const tokenizer = openTokenizer(folder, options);
    const name = (id: number) => tokenizer.decode([id], { skipSpecialTokens: false });
    const { beginId, eosId, stopIds } = tokenizer;
    return [name(beginId), name(eosId), ...stopIds.filter((id) => id !== eosId).map(name)];
  }
  const llama3Id = (token: string) =>
    testingTokenizers.llama3.added_tokens.find(({ content }) => content === token)!.id;

  test('are what the tokenizer puts around a text, and the usual names', () => {
    expect(beside('gpt2', {})).toEqual(['<|endoftext|>', '<|endoftext|>']);
    expect(beside('llama2', {})).toEqual(['<s>', '</s>']);
    expect(beside('llama3', {})).toEqual(['<|begin_of_text|>', '<|end_of_text|>']);
    expect(beside('wordPiece', {})).toEqual(['[CLS]', '[SEP]']);
    expect(beside('unigram', {})).toEqual(['</s>', '</s>']);
  });

  test('are what the files beside it say', () => {
    const tokens = { bos_token: null, eos_token: { content: '<|eot_id|>', special: true } };
    expect(beside('llama3', { 'tokenizer_config.json': tokens })).toEqual(['<|eot_id|>', '<|eot_id|>']);
    expect(beside('llama3', { 'special_tokens_map.json': { eos_token: '<|eot_id|>' } })).toEqual([
      '<|begin_of_text|>',
      '<|eot_id|>',
    ]);
    const ends = { eos_token_id: [llama3Id('<|end_of_text|>'), llama3Id('<|eot_id|>')] };
    expect(beside('llama3', { 'generation_config.json': ends })).toEqual([
      '<|begin_of_text|>',
      '<|end_of_text|>',
      '<|eot_id|>',
    ]);
    // A checkpoint's own, where the tokenizer is elsewhere.
    const checkpoint = mkdtempSync(join(directory, 'checkpoint-'));
    writeFileSync(join(checkpoint, 'generation_config.json'), JSON.stringify(ends));
    expect(beside('llama3', {}, { checkpoint })).toEqual(['<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>']);
    // Ids that are no special tokens of this vocabulary are another's.
    expect(beside('gpt2', { 'config.json': { bos_token_id: 5, eos_token_id: 6 } })).toEqual([
      '<|endoftext|>',
      '<|endoftext|>',
    ]);
    expect(() => beside('gpt2', { 'config.json': { eos_token_id: '6' } })).toThrow(
      /config\.json: eos_token_id is no token's id; expected a whole number, or several\.$/,
    );
  });

  test('stand before a text where its post-processor or the files beside it say so', () => {
    const adds = (family: Family, config?: object, options: TokenizerOptions = {}) => {
      const folder = mkdtempSync(join(directory, 'adds-'));
      writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(testingTokenizers[family]));
      if (config) writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
      return openTokenizer(folder, options).addsBos;
    };
    expect([adds('gpt2'), adds('llama2'), adds('llama3')]).toEqual([false, true, true]);
    expect(adds('llama2', { add_bos_token: false })).toBe(false);
    expect(adds('gpt2', { bos_token: '<|endoftext|>', add_bos_token: true })).toBe(true);
    expect(adds('llama2', { add_bos_token: true }, { bosToken: '' })).toBe(false);
  });

  test('are what is asked for', () => {
    expect(beside('llama2', {}, { bosToken: '', eosToken: '<unk>' })).toEqual(['<unk>', '<unk>']);
    expect(beside('gpt2', {}, { bosToken: 'Ġt' })).toEqual([' t', '<|endoftext|>']);
    expect(() => beside('gpt2', {}, { bosToken: '<s>' })).toThrow(
      /no token '<s>' to begin documents with .*--bos-token/,
    );
    expect(() => beside('gpt2', { 'tokenizer_config.json': { eos_token: '</s>' } })).toThrow(
      /no token '<\/s>' to end documents with \(.*tokenizer_config\.json names it\)/,
    );
    expect(() => beside('gpt2', { 'tokenizer_config.json': { eos_token: 5 } })).toThrow(/eos_token is not a token/);
    expect(() => beside('metaspace', { 'config.json': [] })).toThrow(/config\.json is no JSON object/);
  });
});

describe('a damaged tokenizer.json', () => {
  const MISSING = Symbol('missing');
  const values = [MISSING, null, 5, -1, 2 ** 31 - 1, 2 ** 32, 0.5, 'x', '', true, false, [], {}, ['a', 'b']];
  type Path = (string | number)[];

  function* pathsIn(value: unknown, path: Path = []): Generator<Path> {
    if (path.length > 0) yield path;
    if (typeof value !== 'object' || value === null) return;
    // Of long lists a few: their members are alike.
    for (const key of Object.keys(value).slice(0, path.at(-1) === 'vocab' ? 2 : 8)) {
      yield* pathsIn((value as Record<string, unknown>)[key], [...path, Array.isArray(value) ? Number(key) : key]);
    }
  }

  function changed(json: unknown, path: Path, value: unknown): unknown {
    const copy = structuredClone(json);
    let at = copy as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) at = at[key] as typeof at;
    if (value === MISSING) delete at[path.at(-1)!];
    else at[path.at(-1)!] = value;
    return copy;
  }

  test.each(families)('(%s) is refused in one line, or encodes alike in both libraries', async (family) => {
    const json = testingTokenizers[family];
    const refused: string[] = [];
    let opened = 0;
    for (const path of pathsIn(json)) {
      for (const value of values) {
        try {
          const checked = checkTokenizerJson(changed(json, path, value), 'tokenizer.json');
          const js = openJs(checked, 'tokenizer.json');
          js.encode('the hello 🙂.');
          // The other library takes longer to open: one in eight.
          if (opened++ % 8 === 0) await openRust(checked, js, 'tokenizer.json');
        } catch (error) {
          expect([path.join('.'), value, (error as Error).name]).toEqual([path.join('.'), value, 'UserError']);
          refused.push((error as Error).message);
        }
      }
    }
    for (const message of refused) expect(message).toMatch(/^tokenizer\.json cannot be used as a tokenizer: [^\n]+\.$/);
    expect(refused.length).toBeGreaterThan(300);
    expect(opened).toBeGreaterThan(30);
  });

  test.each([
    ['dropout', ['model', 'dropout'], 'x', /model\.dropout: expected null/],
    ['a merge', ['model', 'merges', 3], 5, /model\.merges\.3 is 5; expected two tokens/],
    [
      'a merge of unknown tokens',
      ['model', 'merges', 3],
      ['q', 'zz'],
      /model\.merges\.3: 'zz' is not in the vocabulary/,
    ],
    ['an id', ['model', 'vocab', 'Ġt'], 2 ** 31 - 1, /id of 'Ġt' is 2147483647; expected a whole number up to/],
    ['an added id', ['added_tokens', 0, 'id'], 2 ** 31 - 1, /added_tokens\.0\.id/],
    ['single_word', ['added_tokens', 0, 'single_word'], true, /single_word is applied differently/],
  ] as [string, Path, unknown, RegExp][])('names the place: %s', async (name, path, value, message) => {
    mkdirSync(join(directory, name), { recursive: true });
    const file = join(directory, name, 'tokenizer.json');
    writeFileSync(file, JSON.stringify(changed(testingTokenizers.gpt2, path, value)));
    expect(() => openTokenizer(file)).toThrow(
      expect.objectContaining({ name: 'UserError', message: expect.stringMatching(message) }),
    );
    await expect(shrinkTokenizer(file, 260, join(directory, 'shrunk.json'))).rejects.toThrow(message);
  });
});
