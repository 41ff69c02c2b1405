import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NumpyRandom } from '../python/numpy_random.js';
import { PythonRandom } from '../python/random.js';
import { shareFound } from '../tasks/suite/ruler.js';
import { type RulerContext, type RulerForm, rulerForms } from './context.js';
import { materialsIn } from './material_files.js';
import { uuid4 } from './niah.js';
import { Punkt } from './punkt.js';
import { readPunkt } from './punkt_files.js';
import { rulerTasks } from './tasks.js';
import { pairsInOrder } from './words.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-ruler-'));
afterAll(() => rmSync(folder, { recursive: true }));

const put = (path: string, text: string) => {
  mkdirSync(join(folder, 'ruler', path, '..'), { recursive: true });
  writeFileSync(join(folder, 'ruler', path), text);
};
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);
const sentences = numbers(900).map((i) => `Sentence ${i} of Dr. Ames is about ${i * i} things.`);
put('essays.jsonl', `${JSON.stringify({ text: sentences.join(' ') })}\n`);
put('punkt_tab/english/abbrev_types.txt', 'dr\n');
put('punkt_tab/english/collocations.tab', '');
put('punkt_tab/english/sent_starters.txt', '');
put('punkt_tab/english/ortho_context.tab', 'sentence\t46\n');
put(
  'nounlist.txt',
  numbers(120)
    .map((i) => `noun${String.fromCharCode(97 + (i % 26))}${i}`)
    .join('\n'),
);
put(
  'adjectivelist.txt',
  `${numbers(40)
    .map((i) => `adj${i}`)
    .join('\n')}\nwell \nwell-off`,
);
put('verblist.txt', 'go\nsee\n');
const paragraphs = numbers(40).map((p) => ({
  context: `Paragraph ${p} says that the king of land ${p} is Rex ${p}.`,
  qas: [
    {
      question: `Who is king of land ${p}?`,
      is_impossible: false,
      answers: [{ text: `Rex ${p}` }, { text: `King Rex ${p}` }],
    },
    { question: 'Who knows?', is_impossible: true, answers: [] },
  ],
}));
put(
  'dev-v2.0.json',
  JSON.stringify({
    data: [
      { title: 'Kings', paragraphs: paragraphs.slice(0, 20) },
      { title: 'More', paragraphs: paragraphs.slice(20) },
    ],
  }),
);
put(
  'hotpot_dev_distractor_v1.json',
  JSON.stringify(
    numbers(30).map((q) => ({
      question: `What is number ${q}?`,
      answer: `item ${q}`,
      context: [
        [`Title ${q}`, [`Number ${q} is item ${q}.`, ' It is so.']],
        [`Title ${q + 1}`, [`Number ${q + 1} is item ${q + 1}.`, ' It is so.']],
      ],
    })),
  ),
);

const count = async (text: string) => (text.match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu) ?? []).length;
const contextOf = (form: RulerForm, maxLength: number, samples = 4): RulerContext => ({
  ...{ form, maxLength, samples, count },
  random: new PythonRandom(42),
  numpy: new NumpyRandom(42),
  materials: materialsIn(folder, form),
});

describe.each(rulerForms)('texts in the form of %s', (form) => {
  it.each(rulerTasks.map((task) => [task.name, task] as const))('%s hold their answers and fit', async (name, task) => {
    const made = await task.write(contextOf(form, 1200));
    expect(made).toHaveLength(4);
    for (const { prompt, begun, outputs, length } of made) {
      expect(prompt.endsWith(begun)).toBe(true);
      const held = outputs.filter((output) => prompt.includes(output)).length;
      expect(held).toBeGreaterThanOrEqual(task.anyOutput ? 1 : outputs.length);
      // The answer to frequent words comes on top of the length, as in the original.
      if (name !== 'fwe') expect(length).toBeLessThanOrEqual(1200);
      if (form !== 'harness') expect(await count(prompt)).toBeLessThanOrEqual(1200);
    }
    expect(await task.write(contextOf(form, 1200))).toEqual(made);
    expect(new Set(made.map(({ prompt }) => prompt)).size).toBe(4);
  });

  it('end with an error where the originals go on for ever', async () => {
    const [needles] = rulerTasks;
    await expect(needles!.write(contextOf(form, 150))).rejects.toThrow(
      'niah_single_1: not even the shortest text fits 150 tokens; take a longer length.',
    );
    const questions = rulerTasks.find(({ name }) => name === 'qa_1')!;
    await expect(questions.write(contextOf(form, 1200, 41))).rejects.toThrow(
      'qa_1: 41 texts need as many questions, and there are 40.',
    );
  });
});

describe('parts of the texts', () => {
  it('needles, whose question speaks of one or of several', async () => {
    const first = async (name: string) =>
      (await rulerTasks.find((task) => task.name === name)!.write(contextOf('nvidia-2024-10', 1200)))[0]!;
    const one = await first('niah_single_1');
    expect(one.prompt).toMatch(
      /^A special magic number is hidden within .* about the number afterwards\.\nThe grass is green\./,
    );
    expect(one.begun).toMatch(
      /^ The special magic number for [a-z]+\d*-noun[a-z]\d+ mentioned in the provided text is$/,
    );
    expect(one.prompt).toContain(`is: ${one.outputs[0]}.`);
    const many = await first('niah_multiquery');
    expect(many.begun).toMatch(/^ The special magic numbers for (\S+, ){3}and \S+ mentioned in the provided text are$/);
    expect(many.outputs).toHaveLength(4);
  });

  it('pairs of words in order, each once', () => {
    const [adjectives, nouns] = [
      ['well', 'sad', 'well-off', 'sad'],
      ['off-day', 'day', 'off', 'a'],
    ];
    const all = [...new Set(adjectives.flatMap((one) => nouns.map((noun) => `${one}-${noun}`)))].sort();
    const pairs = pairsInOrder(adjectives, nouns);
    expect(numbers(pairs.length).map(pairs.at)).toEqual(all);
  });

  it('UUIDs with their version', () => {
    expect(uuid4((1n << 128n) - 1n)).toBe('ffffffff-ffff-4fff-bfff-ffffffffffff');
    expect(uuid4(0n)).toBe('00000000-0000-4000-8000-000000000000');
  });

  it('sentences, not cut after abbreviations', () => {
    const punkt = new Punkt(readPunkt(join(folder, 'ruler/punkt_tab/english')));
    expect(punkt.sentences('He saw Dr. Ames. "Really?" she said! Then (it is so.) They left...  \n')).toEqual([
      'He saw Dr. Ames.',
      '"Really?"',
      'she said!',
      'Then (it is so.)',
      'They left...',
    ]);
  });

  it('what an answer holds', () => {
    expect(shareFound(' It is\u0000REX 3, or so', ['rex 3', 'King Rex 3'])).toBe(0.5);
    expect(shareFound('', ['a'])).toBe(0);
  });

  it('a material that is missing is named with where it is published', () => {
    expect(() => materialsIn(join(folder, 'nowhere'), 'harness').squad()).toThrow(
      /^RULER needs dev-v2\.0\.json or squad\.json under .*ruler, as published in https:\/\/rajpurkar/,
    );
  });
});

// Variable tracking needs no text of others: these are the texts of NVIDIA's own code (of October 2024 and of July 2026), run
// with seed 42 and the tokenizer below, by their SHA-256.
it.each([
  ['nvidia-2024-10', 1500, 3, 'f2f043d7d53c8a1aae7ed883fe09adaee075d69283697b10e2f65827cd1dea60'],
  ['nvidia-2024-10', 2048, 12, '1f066af6bee1f0837e4a50ea6328acc36236d8340b090aacbe02e80fcddc9026'],
  ['nvidia', 1500, 3, 'a9f13646b7303f16980624646dc8daaa873d5e9347ba80ffbfdda91900d0726c'],
  ['nvidia', 4096, 3, 'abff3843e3c00c67837a8e4420c54a3444d11d94b3128ca439ac7b456d08f710'],
] as const)('tracks variables as the original does: %s, %i tokens', async (form, maxLength, samples, sha256) => {
  const made = await rulerTasks
    .find(({ name }) => name === 'vt')!
    .write({
      ...{ form, maxLength, samples, random: new PythonRandom(42), numpy: new NumpyRandom(42) },
      materials: materialsIn(folder, form),
      count: async (text) => (text.match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu) ?? []).length,
    });
  const all = made.map(({ prompt }) => prompt).join('\x1f');
  expect(createHash('sha256').update(all).digest('hex')).toBe(sha256);
});
