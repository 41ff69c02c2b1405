import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { goldenJson, goldenLines, goldenPath, goldens, unlessSkipped } from '../goldens.fixture.js';
import { NumpyRandom } from '../python/numpy_random.js';
import { PythonRandom } from '../python/random.js';
import { words } from '../python/text.js';
import { mean } from '../tasks/statistics.js';
import { shareFound } from '../tasks/suite/ruler.js';
import { hotpotQuestions, type RulerMaterials, sentencesOf, squadQuestions } from './materials.js';
import { Punkt } from './punkt.js';
import { rulerTasks } from './tasks.js';
import { pairsInOrder, wordsInOrder } from './words.js';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const once = <T>(make: () => T): (() => T) => {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
};

const punkt = once(() => {
  const json = goldenJson<{
    abbrev_types: string[];
    collocations: [string, string][];
    sent_starters: string[];
    ortho_context: Record<string, number>;
  }>('ruler_inputs/punkt_english.json');
  return new Punkt({
    abbreviations: new Set(json.abbrev_types),
    collocations: new Set(json.collocations.map((pair) => pair.join('\t'))),
    sentenceStarters: new Set(json.sent_starters),
    orthography: new Map(Object.entries(json.ortho_context)),
  });
});
/** NVIDIA's file has the essays one right after the other, the harness puts a space between. */
const essays = (between: string) =>
  once(() =>
    words(
      goldenLines<{ text: string }>('ruler_inputs/essays.jsonl')
        .map(({ text }) => text)
        .join(between),
    ),
  );
const list = (name: string) =>
  readFileSync(goldenPath(`ruler_inputs/wonderwords_${name}list.txt`), 'utf8')
    .split('\n')
    .map((word) => word.trim())
    .filter((word) => word !== '');

const materialsWith = (essay: () => readonly string[], repeats = false): RulerMaterials => ({
  essay,
  sentences: sentencesOf(punkt, essay, repeats),
  needleWords: once(() => pairsInOrder(list('adjective'), list('noun'))),
  allWords: once(() => wordsInOrder(list('noun'), list('adjective'), list('verb'))),
  squad: once(() => squadQuestions(goldenJson('ruler_inputs/squad_small.json'))),
  hotpot: once(() => hotpotQuestions(goldenJson('ruler_inputs/hotpot_small.json'))),
});
const nvidia = materialsWith(essays(''));
const repeating = materialsWith(essays(''), true);
const harness = materialsWith(essays(' '));

/** The goldens' tokenizer: words, and every other character by itself. */
const count = async (text: string) => (text.match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu) ?? []).length;

const nvidiaNames: Record<string, string> = {
  ruler_vt: 'vt',
  ruler_cwe: 'cwe',
  ruler_fwe: 'fwe',
  ruler_qa_squad: 'qa_1',
  ruler_qa_hotpot: 'qa_2',
};

interface Cut {
  words?: number;
  sentences: number | string[];
  lengths?: number[];
  text?: string;
}

interface Nvidia {
  task: string;
  max_seq_length: number;
  num_samples: number;
  seed: number;
  sample: number;
  input?: string;
  input_sha256?: string;
  outputs: string[];
  length: number;
  answer_prefix?: string;
}

describe.skipIf(!goldens)(`RULER${unlessSkipped}`, () => {
  it('cuts sentences as NLTK does', () => {
    for (const one of goldenJson<Cut[]>('ruler_inputs/punkt_golden.json')) {
      if (one.text !== undefined) expect(punkt().sentences(one.text)).toEqual(one.sentences);
      else {
        const found = punkt().sentences(harness.essay().slice(0, one.words).join(' '));
        expect(found.map((sentence) => sentence.length)).toEqual(one.lengths);
      }
    }
  });

  it('knows all pairs of words', () => {
    expect(nvidia.needleWords().length).toBe(6_175_260);
    expect(nvidia.allWords()).toHaveLength(8169);
  });

  const lines = linesOf<Nvidia>('ruler_nvidia_2024-10.jsonl');
  for (const key of new Set(lines.map((one) => `${one.task} ${one.max_seq_length}`))) {
    it(`writes NVIDIA's texts of October 2024: ${key}`, async () => {
      const own = lines.filter((one) => `${one.task} ${one.max_seq_length}` === key);
      const { max_seq_length, num_samples, seed, task } = own[0]!;
      const random = new PythonRandom(seed);
      const numpy = new NumpyRandom(seed);
      const made = await rulerTasks
        .find(({ name }) => name === task)!
        .write({
          form: 'nvidia-2024-10',
          random,
          numpy,
          materials: nvidia,
          count,
          maxLength: max_seq_length,
          samples: num_samples,
        });
      for (const { sample, input, outputs, length, ...rest } of own) {
        const found = made[sample]!;
        if (input !== undefined) expect(found.prompt).toBe(input);
        else expect(sha256(found.prompt), JSON.stringify(rest)).toBe(rest.input_sha256);
        expect([found.outputs, found.length]).toEqual([outputs, length]);
      }
    });
  }

  const present = linesOf<Nvidia>('ruler_nvidia.jsonl');
  for (const key of new Set(present.map((one) => `${one.task} ${one.max_seq_length}`))) {
    it(`writes NVIDIA's present texts: ${key}`, async () => {
      const own = present.filter((one) => `${one.task} ${one.max_seq_length}` === key);
      const { max_seq_length: maxLength, num_samples: samples, seed, task } = own[0]!;
      const [random, numpy] = [new PythonRandom(seed), new NumpyRandom(seed)];
      const made = await rulerTasks
        .find(({ name }) => name === task)!
        .write({ form: 'nvidia', random, numpy, materials: repeating, count, maxLength, samples });
      for (const { sample, input, input_sha256, answer_prefix, outputs, length } of own) {
        const { prompt, begun, ...found } = made[sample]!;
        const question = prompt.slice(0, prompt.length - begun.length);
        if (input === undefined) expect(sha256(question)).toBe(input_sha256);
        else expect([question, begun]).toEqual([input, answer_prefix]);
        expect(found).toEqual({ outputs, length });
      }
    });
  }

  it('finds answers as both do', () => {
    for (const one of goldens ? goldenJson<Metrics[]>('ruler_metrics.json') : []) {
      if (!one.predictions) continue;
      const shares = one.predictions.map((answer, i) => shareFound(answer, one.references[i]!));
      expect(mean(shares)).toBe(one.lm_eval_all);
      expect(Math.round(100 * 100 * mean(shares.map(Math.ceil))) / 100).toBe(one.nvidia_part);
    }
  });

  const theirs = linesOf<Harness>('ruler_lm_eval.jsonl');
  for (const task of new Set(theirs.map((one) => one.task))) {
    it(`writes the harness's texts: ${task}`, async () => {
      const own = theirs.filter((one) => one.task === task);
      const random = new PythonRandom(0);
      const numpy = new NumpyRandom(1234);
      for (const maxLength of new Set(own.map((one) => one.max_length))) {
        const made = await rulerTasks
          .find(({ name }) => name === (nvidiaNames[task] ?? task))!
          .write({ form: 'harness', random, numpy, materials: harness, count, maxLength, samples: 500 });
        for (const line of own.filter((one) => one.max_length === maxLength)) {
          if (line.context !== undefined) {
            const { prompt, outputs } = made[line.sample]!;
            expect(prompt).toBe(line.context);
            expect(shareFound(line.resp!, outputs)).toBe(line.metrics![maxLength]);
          }
          if (!line.summary) continue;
          expect(made.slice(0, 10).map(({ outputs }) => outputs)).toEqual(line.outputs_first10);
          const inputs = made.map(({ prompt, begun }) => prompt.slice(0, prompt.length - begun.length));
          expect(sha256(inputs.join('\x1f'))).toBe(line.sha256_of_all_inputs);
        }
      }
    });
  }
});

interface Metrics {
  predictions?: string[];
  references: string[][];
  lm_eval_all: number;
  nvidia_part: number;
}

interface Harness {
  task: string;
  max_length: number;
  sample: number;
  doc?: { outputs: string[]; length: number };
  context?: string;
  resp?: string;
  metrics?: Record<string, number>;
  summary?: boolean;
  sha256_of_all_inputs?: string;
  outputs_first10?: string[][];
}

function linesOf<T>(name: string): T[] {
  return goldens ? goldenLines<T>(name) : [];
}
