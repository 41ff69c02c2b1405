/** sb-eval and sb-generate as a user runs them, on small checkpoints of every attention kind, and on wrong input. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { CHECKSUMS_FILE, checksumsOf, type LlamaConfigInput, LlamaModel } from '@stickbreaking/model';
import { tensor } from '@tensorflow/tfjs-core';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main as evaluate } from './cli.js';
import { main as generate } from './generate_cli.js';
import { runHere as run } from './run_here.fixture.js';
import { readText } from './text.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-eval-'));
const at = (name: string) => join(folder, name);
const base: LlamaConfigInput = {
  ...{ vocabSize: 300, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4, numKvHeads: 2 },
  contextLength: 16,
};
const kinds: Record<string, LlamaConfigInput['attention']> = {
  'stick-breaking': { kind: 'stick-breaking', remainderBias: true, headNorm: true },
  rope: 'softmax+rope',
  'rope-linear': { kind: 'softmax', position: { kind: 'rope', scaling: { kind: 'linear', factor: 4 } } },
  'rope-ntk': { kind: 'softmax', position: { kind: 'rope', scaling: { kind: 'ntk', factor: 4 } } },
  'rope-dynamic': { kind: 'softmax', position: { kind: 'rope', scaling: { kind: 'dynamic', factor: 2 } } },
  alibi: 'softmax+alibi',
  fire: 'softmax+fire',
  nope: 'softmax+nope',
  window: { kind: 'softmax', position: 'rope', window: 8 },
};
const text = Array.from({ length: 24 }, (_, i) => `The ${i}th line of a text has ${i * i} words, or so they say.`).join(
  '\n',
);

beforeAll(async () => {
  await selectBackend('cpu');
  writeFileSync(at('text.txt'), text);
  await trainTokenizer({ sources: [{ path: at('text.txt') }], vocabSize: 300, output: at('tokenizer.json') });
  for (const [name, attention] of Object.entries(kinds)) {
    LlamaModel.create({ ...base, attention }, { seed: 1 }).save(at(name));
    cpSync(at('tokenizer.json'), join(at(name), 'tokenizer.json'));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

const evaluating = (checkpoint: string, ...more: string[]) =>
  run(evaluate, '--backend', 'cpu', '--checkpoint', at(checkpoint), ...more);

describe('sb-eval', () => {
  it.each(Object.keys(kinds))('evaluates %s by both protocols, beyond the trained length', async (kind) => {
    const options = ['--lengths', '8..32', '--protocol', 'both', '--data', at('text.txt'), '--json'];
    const { code, stdout } = await evaluating(kind, ...options);
    expect(code).toBe(0);
    const { results } = JSON.parse(stdout) as { results: Record<string, number>[] };
    expect(results.map(({ protocol, length }) => `${protocol} ${length}`)).toEqual(
      ['stream', 'documents'].flatMap((protocol) => [8, 16, 32].map((length) => `${protocol} ${length}`)),
    );
    for (const { nll, perplexity, tokens, textNll, words, bytes, wordPerplexity, bitsPerByte } of results) {
      // Fresh weights of deviation 0.02 know nothing: the loss is near that of an even guess.
      expect(Math.abs(nll! - Math.log(300))).toBeLessThan(0.2);
      expect(perplexity).toBeCloseTo(Math.exp(nll!), 6);
      expect(Math.log(wordPerplexity!)).toBeCloseTo(textNll! / words!, 6);
      expect(bitsPerByte).toBeCloseTo(textNll! / Math.LN2 / bytes!, 6);
      expect(textNll! / (nll! * tokens!)).toBeCloseTo(1, 1);
    }
    const [, , , whole] = results;
    expect([whole!.words, whole!.bytes]).toEqual([text.split(/\s+/).length, Buffer.byteLength(text)]);
  });

  it('reads WikiText’s ending as text, and of a directory what has a known ending', async () => {
    mkdirSync(at('corpus.v1'));
    cpSync(at('text.txt'), at('corpus.v1/text.txt'));
    writeFileSync(at('corpus.v1/notes.md'), Buffer.from([0xff]));
    cpSync(at('text.txt'), at('text.raw'));
    const options = ['--lengths', '16', '--max-tokens', '32', '--json'];
    const results = await Promise.all(
      ['text.txt', 'text.raw', 'corpus.v1'].map(async (name) => {
        const documents = await readText(at(name));
        return documents.map(({ text }) => text);
      }),
    );
    expect(results).toEqual([[text], [text], [text]]);
    expect((await evaluating('rope', ...options, '--data', at('corpus.v1'))).code).toBe(0);
  });

  it('scores the same lines alike under every name', async () => {
    const rows = text.split('\n').map((line) => ({ text: line }));
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    const columnData = [{ name: 'text', data: rows.map((row) => row.text), type: 'STRING' as const }];
    const files: Record<string, string | Uint8Array> = {
      'lines.jsonl': lines,
      'lines.JSONL': lines,
      'lines.ndjson': lines,
      'lines.json': lines,
      'array.json': JSON.stringify(rows),
      'lines.jsonl.gz': gzipSync(lines),
      'lines.parquet': Buffer.from(parquetWriteBuffer({ columnData })),
      'ends.txt': rows.map((row) => row.text).join('<|endoftext|>'),
    };
    const found = new Set<string>();
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(at(name), content);
      const options = ['--lengths', '16', '--max-tokens', '64', '--json', '--data', at(name)];
      const { results } = JSON.parse((await evaluating('rope', ...options)).stdout);
      const { seconds: _, ...figures } = results[0];
      found.add(JSON.stringify(figures));
    }
    expect(found.size).toBe(1);
  });

  it('reads no more of a large text than it needs', async () => {
    const good = Array.from({ length: 3e5 }, (_, i) => `Line ${i}.\n`).join('');
    writeFileSync(at('large.txt'), Buffer.concat([Buffer.from(good), Buffer.of(0xff)]));
    const options = ['--lengths', '16', '--json', '--data', at('large.txt'), '--max-tokens', '64'];
    const { code, stdout, stderr } = await evaluating('rope', ...options);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout).results[0].tokens).toBe(64);
    const documents = await evaluating('rope', ...options, '--split', 'line', '--protocol', 'documents');
    expect(documents.code, documents.stderr).toBe(0);
    const { maxTokens, results } = JSON.parse(documents.stdout);
    const [{ tokens, isPart, words, documents: count }] = results;
    expect([maxTokens, isPart, words]).toEqual([64, true, 2 * count]);
    expect(tokens).toBeLessThanOrEqual(64);
    expect(count).toBeGreaterThan(1);
  });

  it('writes loss by length and by position as HTML', async () => {
    const lengths = ['--lengths', '8..32', '--protocol', 'both', '--data', at('text.txt')];
    const { code } = await evaluating('rope', ...lengths, '--report', at('lengths.html'));
    expect(code).toBe(0);
    const html = readFileSync(at('lengths.html'), 'utf8');
    for (const heading of ['Loss by context length', 'Loss by position']) expect(html).toContain(`<h2>${heading}</h2>`);
    expect(html).toContain('windows of 32');
    // A window of 32 has positions up to 1, 2, 4, 8, 16 and 32.
    expect(html).toContain('position in the window: 32;');
    expect(html.match(/<td[^>]*>(?:stream|documents)<\/td>/g)).toHaveLength(6);
  });

  it('prints a table that names its protocols, and writes the JSON where it is told', async () => {
    writeFileSync(at('two.jsonl'), [text, text].map((one) => JSON.stringify({ text: one })).join('\n'));
    const options = ['--lengths', '16,24', '--protocol', 'both', '--data', at('two.jsonl'), '--output', at('out.json')];
    const refused = await evaluating('rope', ...options, '--max-tokens', '96');
    expect([refused.code, refused.stdout]).toEqual([1, '']);
    expect(refused.stderr).toMatch(/^The first document has more than 96 tokens, [^\n]*\n$/);
    expect(existsSync(at('out.json'))).toBe(false);
    const whole = await evaluating('rope', '--lengths', '16', '--protocol', 'documents', '--data', at('text.txt'));
    expect(whole.stdout).not.toContain('Scored:');
    const most = String(Number(/ (\d+) +[\d.]+\n$/.exec(whole.stdout)![1]) + 1);
    const { code, stdout } = await evaluating('rope', ...options, '--max-tokens', most, '--report', at('part.html'));
    expect(code).toBe(0);
    const scored = `the first document; with the next they would have more than ${most} tokens`;
    expect(stdout).toContain(`\nScored: ${scored}\n`);
    expect(readFileSync(at('part.html'), 'utf8')).toContain(scored);
    expect(stdout).toMatch(/Protocol stream: .*\nlength +nll\/token +perplexity[^\n]*\n +16 [^\n]*\n +24 /);
    expect(stdout).toMatch(/Protocol documents: document by document/);
    expect(JSON.parse(readFileSync(at('out.json'), 'utf8')).results).toHaveLength(4);
  });
});

describe('sb-generate', () => {
  const generating = (...more: string[]) =>
    run(generate, '--backend', 'cpu', '--checkpoint', at('rope'), '--prompt', 'The ', ...more);

  it('streams the prompt and its continuation, the same for the same seed', async () => {
    const first = await generating('--max-new-tokens', '12', '--seed', '5');
    expect(first.code).toBe(0);
    expect(first.stdout).toMatch(/^The .+\n$/s);
    expect(await generating('--max-new-tokens', '12', '--seed', '5')).toEqual(first);
    const stop = first.stdout.slice(8, 11);
    const stopped = await generating('--max-new-tokens', '12', '--seed', '5', '--stop', stop);
    expect(stopped.stdout).toBe(`The ${first.stdout.slice(4).split(stop)[0]}\n`);
  });

  it.each([
    ['--temperature', '-1', /temperature is -1; expected 0 or more/],
    ['--top-p', '2', /topP is 2; expected more than 0 and at most 1/],
    ['--max-new-tokens', 'few', /--max-new-tokens expects a number/],
    ['--tokenizer', 'none.json', /cannot read the tokenizer .*none\.json/],
  ])('refuses %s %s before it writes anything', async (option, value, message) => {
    const { code, stdout, stderr } = await generating(option, value);
    expect([code, stdout]).toEqual([/none\.json/.test(stderr) ? 1 : 2, '']);
    expect(stderr).toMatch(message);
  });
});

describe('sb-generate with a file of prompts', () => {
  const prompts = ['The line', { prompt: 'of a text', id: 'x' }, { prompt: 'has words', seed: 4 }, 'so they say'];
  const files = (...more: string[]) =>
    run(generate, '--backend', 'cpu', '--checkpoint', at('stick-breaking'), '--prompts', at('prompts.jsonl'), ...more);
  const lines = (text: string) =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .sort((a, b) => (a.index as number) - (b.index as number));
  const options = ['--max-new-tokens', '9', '--seed', '3'];
  beforeAll(() => {
    writeFileSync(at('prompts.jsonl'), prompts.map((one) => `${JSON.stringify(one)}\n`).join('\n'));
  });

  it('writes a line for each, whatever the batch, as each alone', async () => {
    const { code, stdout } = await files(...options, '--logprobs', '2');
    expect(code).toBe(0);
    const made = lines(stdout);
    expect(made.map(({ index, id, prompt }) => [index, id, prompt])).toEqual([
      [0, undefined, 'The line'],
      [1, 'x', 'of a text'],
      [2, undefined, 'has words'],
      [3, undefined, 'so they say'],
    ]);
    for (const { text, tokens, end, logprobs } of made) {
      expect([typeof text, tokens, end]).toEqual(['string', 9, 'length']);
      for (const { logprob, top } of logprobs as { logprob: number; top: { logprob: number }[] }[]) {
        expect(top).toHaveLength(2);
        expect(logprob).toBeLessThanOrEqual(top[0]!.logprob);
      }
    }
    const texts = made.map(({ text }) => text);
    expect(lines((await files(...options, '--batch', '1')).stdout).map(({ text }) => text)).toEqual(texts);
    const alone = ['--checkpoint', at('stick-breaking'), '--backend', 'cpu', '--max-new-tokens', '9'];
    const third = await run(generate, ...alone, '--prompt', 'has words', '--seed', '4', '--no-echo');
    expect(third.stdout).toBe(`${texts[2]}\n`);
    const echoed = await run(generate, ...alone, '--prompt', 'has words', '--seed', '4', '--echo', '--json');
    expect(JSON.parse(echoed.stdout)).toMatchObject({ text: `has words${texts[2]}`, tokens: 9 });
  });

  it('goes on with an output file, a line that was cut off included', async () => {
    const whole = await files(...options, '--output', at('whole.jsonl'));
    expect([whole.code, whole.stdout]).toEqual([0, '']);
    expect(whole.stderr).toMatch(/^4 prompts, 36 tokens in [\d.]+ s: [\d.]+ tokens\/s\n$/m);
    const made = lines(readFileSync(at('whole.jsonl'), 'utf8'));
    writeFileSync(at('part.jsonl'), `${JSON.stringify(made[1])}\n{"index": 2, "pro`);
    const rest = await files(...options, '--output', at('part.jsonl'));
    expect(rest.stderr).toMatch(/^3 prompts/m);
    expect(lines(readFileSync(at('part.jsonl'), 'utf8'))).toEqual(made);
    expect((await files(...options, '--output', at('part.jsonl'))).stderr).toMatch(/^0 prompts/m);
  });

  it('refuses what does not fit with one line', async () => {
    writeFileSync(at('other.jsonl'), '{"index":0,"prompt":"another"}\n');
    writeFileSync(at('notes.txt'), 'notes\n');
    const [first] = readFileSync(at('whole.jsonl'), 'utf8').split('\n');
    writeFileSync(at('twice.jsonl'), `${first}\n${first}\n`);
    writeFileSync(at('before.jsonl'), `{"index":-1,"prompt":"another"}\n`);
    writeFileSync(at('stray.jsonl'), `{"index":9,"prompt":"another"}\n`);
    writeFileSync(at('bad.jsonl'), '"good"\n{"text": 1}\n');
    const cases: [string[], RegExp, number][] = [
      [['--output', at('other.jsonl')], /other\.jsonl has another prompt 0 than the prompts file/, 1],
      [['--output', at('notes.txt')], /notes\.txt, line 1 is no continuation that sb-generate wrote/, 4],
      [['--output', at('twice.jsonl')], /twice\.jsonl, line 2 is there twice/, 4],
      [['--output', at('before.jsonl')], /before\.jsonl, line 1 is no continuation/, 4],
      [['--output', at('stray.jsonl')], /stray\.jsonl has a continuation of prompt 9, and the prompts file has no/, 4],
      [['--prompt', 'x'], /Both --prompt and --prompts are given/, 2],
      [['--batch', '0'], /--batch is 0; expected a positive whole number/, 2],
    ];
    for (const [more, message, expected] of cases) {
      const { code, stderr } = await files(...options, ...more);
      expect([code, stderr]).toEqual([expected, expect.stringMatching(message)]);
    }
    const alone = ['--checkpoint', at('stick-breaking'), '--backend', 'cpu', '--max-new-tokens', '1'];
    const folder = await run(generate, ...alone, '--prompts', at('stick-breaking'));
    expect([folder.code, folder.stderr]).toEqual([
      1,
      expect.stringMatching(/cannot read \S+stick-breaking: it is a dir/),
    ]);
    const bad = await run(generate, ...alone, '--prompts', at('bad.jsonl'));
    expect([bad.code, bad.stderr]).toEqual([
      1,
      expect.stringMatching(/bad\.jsonl, line 2: expected a string, or an object/),
    ]);
    expect((await run(generate, ...alone, '--prompts', at('none.jsonl'))).stderr).toMatch(/none\.jsonl.*no such file/i);
    expect((await run(generate, ...alone, '--prompt', 'x', '--output', 'y')).code).toBe(2);
  });

  it('reads a prompt that is piped in, and says where positions end', () => {
    const program = fileURLToPath(new URL('../bin/sb-generate.js', import.meta.url));
    const args = [program, '--checkpoint', at('rope'), '--backend', 'cpu', '--max-new-tokens', '30', '--no-echo'];
    const piped = spawnSync(process.execPath, args, { input: 'The line\n', encoding: 'utf8' });
    const typed = spawnSync(process.execPath, [...args, '--prompt', 'The line'], { encoding: 'utf8' });
    expect(piped.status).toBe(0);
    expect(piped.stdout).toBe(typed.stdout);
    expect(piped.stderr).toMatch(/reach past the 16 positions that this model was trained for/);
    const empty = spawnSync(process.execPath, args, { input: '', encoding: 'utf8' });
    expect([empty.status, empty.stderr]).toEqual([1, expect.stringMatching(/prompt on standard input is empty/)]);
  });
});

describe('wrong input ends with one line, its exit code and nothing changed on disk', () => {
  const whole = () => readFileSync(at('rope/model.safetensors'));
  /** A checkpoint like `rope` with other weights, header edited or bytes cut. */
  function damaged(
    name: string,
    change: (header: Record<string, { data_offsets: number[]; shape: number[] }>) => void,
  ) {
    cpSync(at('rope'), at(name), { recursive: true });
    const bytes = whole();
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
    change(header);
    const json = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(join(at(name), 'model.safetensors'), Buffer.concat([size, json, bytes.subarray(8 + length)]));
  }

  beforeAll(() => {
    writeFileSync(at('empty.txt'), '');
    writeFileSync(at('latin.txt'), Buffer.from('caf\xe9 noir', 'latin1'));
    mkdirSync(at('no-text'));
    const frame = Buffer.concat([
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0xa1, 0x00, 0x00]),
      Buffer.from('{"text":"a text"}\n\n\n'),
    ]);
    writeFileSync(at('cut.jsonl.zst'), frame.subarray(0, frame.length - 5));
    const parquet = Buffer.from(
      parquetWriteBuffer({ columnData: [{ name: 'text', data: ['one', 'two'], type: 'STRING' }] }),
    );
    writeFileSync(at('cut.parquet'), parquet.subarray(0, parquet.length - 9));
    cpSync(at('rope'), at('small-vocabulary'), { recursive: true });
    LlamaModel.create({ ...base, vocabSize: 280, attention: 'softmax+rope' }).save(at('small-vocabulary'));
    cpSync(at('rope'), at('other-config'), { recursive: true });
    cpSync(at('alibi/config.json'), at('other-config/config.json'));
    const config = JSON.parse(readFileSync(at('other-config/config.json'), 'utf8'));
    config.num_hidden_layers = config.stickbreaking.numLayers = 3;
    writeFileSync(at('other-config/config.json'), JSON.stringify(config));
    const first = 'model.embed_tokens.weight';
    damaged('lying-shape', (header) => (header[first]!.shape = [2 ** 31, 2 ** 31]));
    damaged('lying-offsets', (header) => (header[first]!.data_offsets = [0, 2 ** 52]));
    damaged('overlap', (header) => (header['model.norm.weight'] = { ...header[first]! }));
    cpSync(at('rope'), at('huge-header'), { recursive: true });
    const bytes = whole();
    bytes.writeBigUInt64LE(2n ** 63n);
    writeFileSync(at('huge-header/model.safetensors'), bytes);
    cpSync(at('rope'), at('cut-weights'), { recursive: true });
    writeFileSync(at('cut-weights/model.safetensors'), whole().subarray(0, 5000));
    cpSync(at('rope'), at('no-tokenizer'), { recursive: true });
    rmSync(at('no-tokenizer/tokenizer.json'));
  });

  /** Names and contents of everything in the folder. */
  function disk(): string {
    const hash = createHash('sha256');
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      hash.update(`${path}\0`);
      if (entry.isFile()) hash.update(readFileSync(path));
    }
    return hash.digest('hex');
  }

  const given = { '--lengths': '8..16', '--data': 'text.txt' };
  const cases: [string, { checkpoint?: string } & Partial<Record<string, string>>, RegExp][] = [
    ['a source that is missing', { '--data': 'none.txt' }, /none\.txt: there is no such file/],
    ['a source that is empty', { '--data': 'empty.txt' }, /empty\.txt is empty/],
    ['a directory without text', { '--data': 'no-text' }, /no-text holds no/],
    ['a truncated Zstandard file', { '--data': 'cut.jsonl.zst' }, /Zstandard data is cut short/],
    ['a truncated Parquet file', { '--data': 'cut.parquet' }, /cut short/],
    ['text that is not UTF-8', { '--data': 'latin.txt' }, /invalid UTF-8 near byte 3/],
    ['a tokenizer larger than the vocabulary', { checkpoint: 'small-vocabulary' }, /300 tokens.* vocabulary of 280/],
    ['no tokenizer', { checkpoint: 'no-tokenizer' }, /no tokenizer\.json; name one with --tokenizer/],
    ['a tensor that claims another shape', { checkpoint: 'lying-shape' }, /not a valid safetensors file.*needs/],
    ['a tensor that claims more bytes', { checkpoint: 'lying-offsets' }, /not a valid safetensors file/],
    ['tensors that overlap', { checkpoint: 'overlap' }, /not a valid safetensors file/],
    ['a header of 2^63 bytes', { checkpoint: 'huge-header' }, /header claims 9223372036854775808 bytes/],
    ['truncated weights', { checkpoint: 'cut-weights' }, /not a valid safetensors file/],
    ['weights of another configuration', { checkpoint: 'other-config' }, /no 'model\.layers\.2\..*config\.json/],
    ['a checkpoint that is none', { checkpoint: 'no-text' }, /neither a checkpoint/],
    [
      'a context that memory cannot hold',
      { '--lengths': '8,999999999' },
      /needs about .* of memory, and this machine has .* GiB; take shorter --lengths/,
    ],
    ['a range that is none', { '--lengths': '4096..2048' }, /4096\.\.2048 is not a range/],
    ['no tokens at most', { '--max-tokens': '0' }, /^--max-tokens is 0; expected a whole number above 0\.$/m],
    ['fewer tokens than none', { '--max-tokens': '-5' }, /^--max-tokens is -5; expected a whole number above 0\.$/m],
    ['a part of a token', { '--max-tokens': '1.5' }, /^--max-tokens is 1\.5; expected a whole number above 0\.$/m],
    [
      'fewer tokens than a window has',
      { '--lengths': '8,32', '--max-tokens': '31' },
      /^--max-tokens is 31; expected 32 or more, as a window of the longest of --lengths has\.$/m,
    ],
    [
      'an option of --attention without it',
      { '--layers': '0' },
      /^--layers is for --attention, which is not given\.$/m,
    ],
    ['lengths that are none', { '--lengths': 'long' }, /--lengths long cannot be read/],
    ['a text shorter than the window', { '--lengths': '65536' }, /too few for one window of 65536/],
    [
      'a field that is not there',
      { '--data': 'out.jsonl', '--field': 'body' },
      /no field 'body'; the record has 'text'/,
    ],
    [
      'an output that cannot be',
      { '--output': 'text.txt/out.json' },
      /cannot write .*: a part of the path is not a directory/,
    ],
    ['an option that is none', { '--lenght': '3' }, /Unknown argument: lenght/],
    ['an unknown backend', { '--backend': 'gpu' }, /Backend 'gpu' is not known; expected one of auto/],
  ];
  it.each(cases)('%s', async (_, { checkpoint = 'rope', ...change }, message) => {
    writeFileSync(at('out.jsonl'), '{"text":"a"}\n');
    const before = disk();
    const paths = new Set(['--data', '--output']);
    const options = Object.entries({ '--backend': 'cpu', ...given, ...change }).flatMap(([option, value]) => [
      option,
      paths.has(option) ? at(value!) : value!,
    ]);
    const { code, stdout, stderr } = await run(evaluate, '--checkpoint', at(checkpoint), ...options);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^[^\n]*\n$/);
    const expected = /see --help|^--/.test(stderr)
      ? 2
      : /not a valid safetensors file|config\.json calls for/.test(stderr)
        ? 4
        : 1;
    expect([code, stdout]).toEqual([expected, '']);
    expect(disk()).toBe(before);
  });

  const tool = fileURLToPath(new URL('../bin/sb-eval.js', import.meta.url));

  it('a word behind options that is a command', async () => {
    const { code, stderr } = await run(evaluate, '--checkpoint', at('rope'), '--data', at('text.txt'), 'tasks');
    expect([code, stderr]).toEqual([
      2,
      "Unknown arguments: checkpoint, data; 'tasks' was read as the command (see --help)\n",
    ]);
    const first = await run(evaluate, 'tasks', '--data', at('text.txt'));
    expect(first.stderr).toBe('Unknown argument: data (see --help)\n');
  });

  it('through the program itself', () => {
    const result = spawnSync(process.execPath, [
      tool,
      '--checkpoint',
      at('rope'),
      '--lengths',
      '4096..2048',
      '--data',
      at('text.txt'),
    ]);
    expect([result.status, result.stdout.toString()]).toEqual([2, '']);
    expect(result.stderr.toString()).toMatch(/^--lengths 4096\.\.2048 is not a range[^\n]*\n$/);
  });

  // A file system of 64 KiB, in a namespace of its own; where the system allows no such thing, there is no small disk.
  const small = 'mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"';
  const canMount = spawnSync('unshare', ['-rm', 'sh', '-c', small, 'sh', tmpdir(), 'true']).status === 0;
  it.skipIf(!canMount)(`a full disk${canMount ? '' : ' (skipped: no mount namespaces here)'}`, () => {
    mkdirSync(at('disk'));
    const script = `head -c 70000 /dev/zero > "$1/fill" 2>/dev/null; dir="$1"; shift; "$@" --output "$dir/out.json"; code=$?; ls "$dir"; exit $code`;
    const command = [process.execPath, tool, '--backend', 'cpu', '--checkpoint', at('rope'), '--lengths', '8'];
    const options = ['--max-tokens', '64', '--data', at('text.txt')];
    const argv = ['-rm', 'sh', '-c', small, 'sh', at('disk'), 'sh', '-c', script, 'sh', at('disk')];
    const result = spawnSync('unshare', [...argv, ...command, ...options]);
    expect(result.stderr.toString()).toMatch(/cannot write .*out\.json: the disk is full; [^\n]*\n$/);
    // Nothing but what filled the disk is on it.
    expect([result.status, result.stdout.toString()]).toEqual([1, 'fill\n']);
  });

  it('leaves quietly when its reader has gone', () => {
    const sbGenerate = tool.replace('sb-eval', 'sb-generate');
    const command = `"$0" "$1" --backend cpu --checkpoint "$2" --prompt "The " --max-new-tokens 40 2>&1 >&3 | cat 1>&2`;
    const options = ['-c', `{ ${command}; } 3>&1 | head -c 2`, process.execPath, sbGenerate, at('stick-breaking')];
    const result = spawnSync('sh', options);
    expect([result.stdout.toString(), result.stderr.toString()]).toEqual(['Th', '']);
  });
});

describe('a checkpoint that is not as it was saved', () => {
  const spoilt = async (name: string, damage: (directory: string) => void) => {
    cpSync(at('rope'), at(name), { recursive: true });
    writeFileSync(join(at(name), CHECKSUMS_FILE), await checksumsOf(at(name)));
    damage(at(name));
    return ['--checkpoint', at(name), '--backend', 'cpu'];
  };
  const commands = (checkpoint: string[]) =>
    [
      [evaluate, ...checkpoint, '--data', at('text.txt'), '--lengths', '16'],
      [evaluate, ...checkpoint, '--attention', '--text', 'The line', '--output', at('drawn.html')],
      [generate, ...checkpoint, '--prompt', 'The', '--max-new-tokens', '2'],
    ] as [Parameters<typeof run>[0], ...string[]][];

  it('with one bit changed is refused, and used where --no-verify says so', async () => {
    const checkpoint = await spoilt('flipped', (directory) => {
      const file = join(directory, 'model.safetensors');
      const bytes = readFileSync(file);
      bytes[bytes.length - 40] = bytes[bytes.length - 40]! ^ 1;
      writeFileSync(file, bytes);
    });
    for (const [command, ...args] of commands(checkpoint)) {
      const { code, stdout, stderr } = await run(command, ...args);
      expect([code, stdout]).toEqual([4, '']);
      expect(stderr).toMatch(/flipped\/model\.safetensors is damaged: it is not as it was saved/);
      expect((await run(command, ...args, '--no-verify')).code).toBe(0);
    }
  });

  it('whose loss is beyond any perplexity gives no numbers', async () => {
    const model = LlamaModel.load(at('rope'));
    const head = model.parameters.get('lm_head.weight')!;
    head.assign(
      tensor(
        head.dataSync().map((weight) => weight * 1e15),
        head.shape,
      ),
    );
    cpSync(at('rope'), at('huge'), { recursive: true });
    model.save(at('huge'));
    model.dispose();
    const options = ['--lengths', '16', '--backend', 'cpu', '--json'];
    const { code, stdout, stderr } = await run(
      evaluate,
      '--checkpoint',
      at('huge'),
      '--data',
      at('text.txt'),
      ...options,
    );
    expect([code, stdout]).toEqual([4, '']);
    expect(stderr).toMatch(/huge: at length 16 the loss is \S+ nats a token, which is beyond any perplexity/);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('with a weight of %s gives no numbers and no text', async (value) => {
    const name = `weights-${value}`;
    const model = LlamaModel.load(at('rope'));
    const weight = model.parameters.get('model.layers.1.mlp.up_proj.weight')!;
    weight.assign(tensor(new Float32Array(weight.size).fill(value, 5, 6), weight.shape));
    cpSync(at('rope'), at(name), { recursive: true });
    model.save(at(name));
    model.dispose();
    for (const [command, ...args] of commands(['--checkpoint', at(name), '--backend', 'cpu'])) {
      const { code, stdout, stderr } = await run(command, ...args);
      expect([code, stdout]).toEqual([4, '']);
      expect(stderr).toMatch(/^[^\n]*'model\.layers\.1\.mlp\.up_proj\.weight' are not finite[^\n]*\n$/);
    }
  });
});
