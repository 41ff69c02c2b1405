// One reader for every name and compression of a file, and for what files of the field hold beside good text.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { shown } from '@stickbreaking/base';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, describe, expect, test } from 'vitest';
import { DocumentCutter } from './document_cutter.js';
import { readDocuments, readFilePieces } from './documents.js';
import { splitValues } from './json_values.js';
import { BY_BZIP2, BY_XZ, BY_ZSTD, forty, read, readTexts, refusal, testFolder } from './reading.fixture.js';
import { listFiles, type SourceInput } from './sources.js';
import { detokenizeWikiText } from './wikitext.js';

const { directory, write, remove } = testFolder('reading');
afterAll(remove);
const texts = readTexts;

const records = [
  { text: 'one' },
  { text: 'two\nlines — ünïcödé 日本 "{[,]}" \\' },
  { text: 'three', meta: { n: [1] } },
];
const expected = records.map(({ text }) => text);
const lines = records.map((record) => `${JSON.stringify(record)}\n`).join('');
const parquet = (columns: Parameters<typeof parquetWriteBuffer>[0]['columnData'], more: object = {}) =>
  Buffer.from(parquetWriteBuffer({ columnData: columns, ...more }));

describe('a reader who has enough', () => {
  const first = async (path: string, more: object = {}) => {
    const notices: string[] = [];
    const onNotice = (line: string) => notices.push(line);
    for await (const { text } of readDocuments({ path, ...more }, { onNotice })) return { text, notices };
    return undefined;
  };

  test.each(['.txt', '.jsonl'])('reads no further in %s', async (ending) => {
    const many = Array.from({ length: 4000 }, (_, i) => `${i} ${'x'.repeat(1000)}`);
    const good =
      ending === '.txt' ? many.join('<|endoftext|>') : many.map((text) => `${JSON.stringify({ text })}\n`).join('');
    const path = write(ending, Buffer.concat([Buffer.from(good), Buffer.of(0xff)]));
    expect((await first(path))?.text).toBe(many[0]);
    await expect(texts({ path })).rejects.toThrow(/invalid UTF-8|not valid JSON/);
    const [file] = listFiles({ path });
    let read = 0;
    const counted = {
      ...file!,
      onRead: (bytes: number) => {
        read += bytes;
      },
    };
    for await (const _ of readFilePieces(counted)) break;
    expect(read).toBeLessThan(3 * 2 ** 20);
    expect(file!.size).toBeGreaterThan(4e6);
  });

  test('is told what was left out and replaced up to there', async () => {
    const path = write('.jsonl', Buffer.from('{"text":null}\n{"text":"a\\ud800"}\n{"text":"b"}\n'));
    const found = await first(path, { invalidText: 'replace' });
    expect(found?.text).toBe('a\ufffd');
    expect(found?.notices).toEqual([
      expect.stringMatching(/record 1 has no text/),
      expect.stringMatching(/replaced by U\+FFFD/),
    ]);
  });
});

describe('the same records give the same documents', () => {
  test.each(['.jsonl', '.JSONL', '.ndjson', '.NdJson', '.json', '.JSON'])('as %s', async (ending) => {
    expect(await texts({ path: write(ending, lines) })).toEqual(expected);
    expect(await texts({ path: write(`${ending}.gz`, gzipSync(lines)) })).toEqual(expected);
    expect(await texts({ path: write(`${ending}.GZ`, gzipSync(`\ufeff${lines}`)) })).toEqual(expected);
  });

  test.each([
    ['an array', JSON.stringify(records)],
    ['an array over many lines', JSON.stringify(records, null, 2)],
    ['values over many lines', records.map((record) => JSON.stringify(record, null, 2)).join('\n')],
  ])('in %s', async (_, json) => {
    expect(await texts({ path: write('.json', json) })).toEqual(expected);
    expect(await texts({ path: write('.json.gz', gzipSync(json)) })).toEqual(expected);
    expect(await texts({ path: write('.data', json), format: 'json' })).toEqual(expected);
  });

  test('compressed by bzip2, xz and zstd', async () => {
    for (const [ending, base64] of [
      ['bz2', BY_BZIP2],
      ['xz', BY_XZ],
      ['zst', BY_ZSTD],
    ]) {
      expect(await texts({ path: write(`.jsonl.${ending}`, Buffer.from(base64!, 'base64')) })).toEqual(forty);
      const twice = Buffer.concat([Buffer.from(base64!, 'base64'), Buffer.from(base64!, 'base64')]);
      expect(await texts({ path: write(`.data.${ending}`, twice), format: 'jsonl' })).toEqual([...forty, ...forty]);
    }
  });

  test('in columns, at the top or inside of another', async () => {
    const own = parquet([{ name: 'text', data: expected, type: 'STRING' }]);
    const inside = parquet([{ name: 'row', data: records.map(({ text }) => ({ text, n: 1 })) }], {
      schema: [
        { name: 'root', num_children: 1 },
        { name: 'row', num_children: 2, repetition_type: 'OPTIONAL' },
        { name: 'text', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
        { name: 'n', type: 'DOUBLE', repetition_type: 'OPTIONAL' },
      ],
    });
    expect(await texts({ path: write('.PARQUET', own) })).toEqual(expected);
    expect(await texts({ path: write('.parquet', inside), field: 'row.text' })).toEqual(expected);
    expect(await refusal({ path: write('.parquet', inside), field: 'row.body' })).toMatch(
      /no column 'row\.body'; it has 'row\.text', 'row\.n'/,
    );
    const nested = records.map(({ text }) => `${JSON.stringify({ row: { text } })}\n`).join('');
    expect(await texts({ path: write('.jsonl', nested), field: 'row.text' })).toEqual(expected);
    expect(await texts({ path: write('.jsonl', '{"row.text":"a"}'), field: 'row.text' })).toEqual(['a']);
    expect(await refusal({ path: write('.jsonl', nested), field: 'row.body' })).toMatch(
      /line 1: there is no field 'row\.body'; 'row' has 'text'/,
    );
  });

  test('between end tokens, in text as in records', async () => {
    const text = '<|endoftext|>one<|endoftext|>\n<|endoftext|>two';
    expect(await texts({ path: write('.txt', text) })).toEqual(['one', 'two']);
    expect(await texts({ path: write('.txt', text), split: 'line' })).toEqual(['one', 'two']);
    expect(await texts({ path: write('.jsonl', JSON.stringify({ text })) })).toEqual(['one', 'two']);
  });

  test('JSON values come out whole however the stream is cut', async () => {
    const value = fc.jsonValue().filter((value) => typeof value === 'object');
    await fc.assert(
      fc.asyncProperty(
        fc.array(value, { maxLength: 5 }),
        fc.boolean(),
        fc.nat(3),
        fc.integer({ min: 1, max: 9 }),
        async (values, isArray, indent, step) => {
          const json = isArray
            ? ` ${JSON.stringify(values, null, indent)}\n`
            : values.map((one) => JSON.stringify(one, null, indent)).join('\n');
          fc.pre(isArray || !json.startsWith('['));
          const bytes = Buffer.from(json);
          async function* stream() {
            for (let i = 0; i < bytes.length; i += step) yield bytes.subarray(i, i + step);
          }
          const found: unknown[] = [];
          for await (const line of splitValues(stream(), 'x')) {
            const text = Buffer.from(line.bytes).toString();
            expect(bytes.subarray(line.offset).toString().startsWith(text)).toBe(true);
            expect(line.number).toBe(bytes.subarray(0, line.offset).toString().split('\n').length);
            found.push(JSON.parse(text));
          }
          expect(found).toEqual(values.map((one) => JSON.parse(JSON.stringify(one))));
        },
      ),
    );
  });
});

describe('WikiText', () => {
  const raw = [
    ' ',
    ' = Robert Boulter = ',
    ' ',
    " Robert is an English film @-@ star ( born 1980 ) . He 's 1 @,@ 000 . ",
    ' = = Career = = ',
    ' Said " so " . ',
    ' = Next = ',
    ' ',
    ' Page . ',
    '',
  ].join('\n');
  const articles = [
    '\n= Robert Boulter =\n\nRobert is an English film-star (born 1980). He\'s 1,000.\n== Career ==\nSaid "so".\n',
    ' = Next =\n\nPage.\n',
  ].map((text) => text.trim());
  const trimmed = async (source: SourceInput) => (await texts(source)).map((text) => text.trim());

  test('gives the same articles as its raw file, as rows of lines and as rows of articles', async () => {
    const rows = raw
      .split('\n')
      .slice(0, -1)
      .map((line) => (line.trim() === '' ? '' : `${line}\n`));
    const whole = await texts({ path: write('.raw', raw) });
    expect(whole.map((text) => text.trim())).toEqual(articles);
    expect(await texts({ path: write('.txt', raw) })).toEqual(whole);
    expect(await texts({ path: write('.parquet', parquet([{ name: 'text', data: rows, type: 'STRING' }])) })).toEqual(
      whole,
    );
    const jsonl = (texts: string[]) => texts.map((text) => `${JSON.stringify({ text })}\n`).join('');
    expect(await texts({ path: write('.jsonl', jsonl(rows)) })).toEqual(whole);
    expect(await trimmed({ path: write('.jsonl', jsonl([raw])) })).toEqual(articles);
    // Lines of other text stay what they are.
    const other = [' = a title = \n', 'a line\n', ''];
    expect(await texts({ path: write('.jsonl', jsonl(other)) })).toEqual(other.slice(0, 2));
  });

  test('is put back in time that grows with the text', () => {
    const spaces = ' '.repeat(200_000);
    for (const open of ['( ', '[ ', '{ ', '" ', "' "]) {
      expect(detokenizeWikiText(open + spaces)).toHaveLength(200_002);
      expect(detokenizeWikiText(open.repeat(50_000)).length).toBeGreaterThan(50_000);
    }
    expect(detokenizeWikiText(`(${spaces}a${spaces})`)).toBe('(a)');
  });
});

describe('what is left out is told once', () => {
  test('hidden files, in directories as in globs', async () => {
    const folder = join(directory, 'hidden');
    mkdirSync(join(folder, '.ipynb_checkpoints'), { recursive: true });
    for (const name of ['a.jsonl', '._a.jsonl', '.ipynb_checkpoints/a-checkpoint.jsonl', '.DS_Store']) {
      writeFileSync(join(folder, name), lines);
    }
    for (const path of [folder, join(folder, '**/*.jsonl')]) {
      const { texts, notices } = await read({ path });
      expect(texts).toEqual(expected);
      expect(notices).toEqual([expect.stringMatching(/: 2 hidden files are left out \(.*\)\.$/)]);
    }
    writeFileSync(join(folder, 'b.csv'), 'a,b');
    expect((await read({ path: folder })).notices[1]).toMatch(/: a file of another kind is left out \(.*b\.csv\)\.$/);
    expect(listFiles({ path: join(folder, '._a.jsonl') })).toHaveLength(1); // named, so meant
    expect(await texts({ path: join(folder, '.ipynb_checkpoints') })).toEqual(expected);
  });

  test('a file that links lead to twice; a link to nothing is no silence', async () => {
    const folder = join(directory, 'links');
    mkdirSync(join(folder, 'deep'), { recursive: true });
    writeFileSync(join(folder, 'a.jsonl'), lines);
    symlinkSync('..', join(folder, 'deep', 'up'));
    symlinkSync('a.jsonl', join(folder, 'b.jsonl'));
    for (const path of [folder, join(folder, '**/*.jsonl')]) {
      const { texts, notices } = await read({ path });
      expect(texts).toEqual(expected);
      expect(notices[0]).toMatch(/\.jsonl is the same file as .*a\.jsonl, and read once\.$/);
    }
    symlinkSync('/nowhere', join(folder, 'c.jsonl'));
    expect(await refusal({ path: folder })).toMatch(/c\.jsonl: there is no such file/);
    expect(await refusal({ path: join(folder, '*.jsonl') })).toMatch(/c\.jsonl: there is no such file/);
  });

  test('texts that are null and parts that are empty', async () => {
    const nulls = '{"text":null}\n{"text":"a"}\n{"text":null}\n';
    const told = { texts: ['a'], notices: [expect.stringMatching(/2 records, number 1 the first, have no text/)] };
    expect(await read({ path: write('.jsonl', nulls) })).toEqual(told);
    const gaps = parquet([{ name: 'text', data: [null, 'a', null], type: 'STRING' }]);
    expect(await read({ path: write('.parquet', gaps) })).toEqual(told);
    const parts = join(directory, 'parts');
    mkdirSync(parts);
    writeFileSync(join(parts, '1.jsonl'), '');
    writeFileSync(join(parts, '2.parquet'), parquet([{ name: 'text', data: [], type: 'STRING' }]));
    writeFileSync(join(parts, '3.jsonl'), '{"text":"a"}');
    writeFileSync(join(parts, '4.jsonl'), '\n');
    const { texts, notices } = await read({ path: parts });
    expect(texts).toEqual(['a']);
    expect(notices.map((line) => line.replace(/^.*\//, ''))).toEqual([
      '1.jsonl is empty and left out.',
      '2.parquet holds no document.',
      '4.jsonl holds no document.',
    ]);
    expect(await refusal({ path: join(parts, '[14].jsonl') })).toMatch(/holds no document/);
    expect(await refusal({ path: join(parts, '1.jsonl') })).toMatch(/is empty/);
  });

  test('NaN and Infinity in other fields', async () => {
    const line = '{"score": NaN, "text": "NaN \\" -Infinity", "a": [-Infinity,Infinity], "b": {"c":NaN}}';
    expect(await texts({ path: write('.jsonl', line) })).toEqual(['NaN " -Infinity']);
    expect(await texts({ path: write('.json', `[${line}]`) })).toEqual(['NaN " -Infinity']);
    expect(await refusal({ path: write('.jsonl', '{"text": NaNa}') })).toMatch(/line 1: invalid JSON/);
  });
});

describe('text that is none', () => {
  const half = `{"text":"a"}\n{"text": "\\ud83d broken"}\n`;
  const latin = Buffer.from('{"text":"caf\xe9"}\n', 'latin1');

  test('is refused with its place, or replaced and told', async () => {
    const path = write('.jsonl', half);
    expect(await refusal({ path })).toMatch(
      /line 2: half of a surrogate pair \(\\ud83d\) at character 0; .*invalidText/,
    );
    const replaced = await read({ path, invalidText: 'replace' });
    expect(replaced.texts).toEqual(['a', '\ufffd broken']);
    expect(replaced.notices).toEqual([
      expect.stringMatching(/invalid text was replaced .*line 2: half of a surrogate/),
    ]);
    for (const ending of ['.jsonl', '.txt']) {
      const notUtf8 = write(ending, latin);
      expect(await refusal({ path: notUtf8 })).toMatch(/invalid UTF-8 near byte 12/);
      const { texts, notices } = await read({ path: notUtf8, invalidText: 'replace' });
      expect(texts.join('')).toContain('caf\ufffd');
      expect(notices).toEqual([expect.stringMatching(/replaced .*near byte 12/)]);
    }
    // One that the text has by itself is no fault.
    expect((await read({ path: write('.txt', '\ufffd'), invalidText: 'replace' })).notices).toEqual([]);
  });
});

describe('long documents', () => {
  test('come in pieces that make the same text, cut at the same ends', () => {
    const parts = fc.array(fc.constantFrom('a ', 'word', '\n', '<', '|end|>', '<|end|>', '🙂'), { maxLength: 60 });
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 12 }), fc.integer({ min: 2, max: 20 }), (parts, step, size) => {
        const text = parts.join('');
        const cutter = new DocumentCutter(['<|end|>'], size);
        const documents: string[] = [];
        let begun = '';
        const take = ({ text, last }: { text: string; last: boolean }) => {
          expect(text.length).toBeLessThanOrEqual(size + 7);
          expect(text.isWellFormed()).toBe(true);
          begun += text;
          if (!last) return;
          documents.push(begun);
          begun = '';
        };
        const units = [...text];
        for (let at = 0; at < units.length; at += step)
          for (const piece of cutter.push(units.slice(at, at + step).join(''))) take(piece);
        for (const piece of cutter.end()) take(piece);
        expect(begun).toBe('');
        // A long blank document is not known to be one when its first piece is given out.
        const kept = (list: string[]) => list.filter((one) => one.trim() !== '');
        expect(kept(documents)).toEqual(kept(text.split('<|end|>')));
      }),
      // A long piece came whole where an end text followed it in the same push.
      { examples: [[['<|end|>', 'word', '|end|>', '<|end|>'], 8, 2]] },
    );
  });
});

test('text from outside is shown on one line, short and escaped', () => {
  expect(shown('a\nb\u001b[31m\u0000')).toBe('a\\nb\\u001b[31m\\u0000');
  expect(shown('x'.repeat(500))).toBe(`${'x'.repeat(200)}…`);
  expect(shown('\ud800')).toBe('\\ud800');
});
