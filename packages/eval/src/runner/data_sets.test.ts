/** Data sets as their authors publish them, under the folder of the data set. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { buildTask } from '../tasks/build.js';
import { suiteOf } from '../tasks/suite/index.js';
import { findData } from './data_sets.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-data-'));
afterAll(() => rmSync(folder, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

const lines = (...rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const { tasks } = suiteOf({ harness: '0.4.13' });

/** The first request about each document of a task, with what is right; and the files that were read. */
async function built(name: string, numFewshot = 0) {
  const task = tasks.get(name)!;
  const from = task.shots?.from;
  const pool = typeof from === 'string' && numFewshot > 0 ? [from] : [];
  const data = findData(
    folder,
    [task.split, ...pool].map((split) => ({ task, split })),
  );
  const documents = await data.rows(task, task.split);
  const rows = { documents, ...(pool.length > 0 ? { pool: await data.rows(task, pool[0]!) } : {}) };
  const { examples } = buildTask(task, rows, { numFewshot });
  return {
    contexts: examples.map(({ requests: [first] }) => ('context' in first! ? first.context : first!.text)),
    targets: examples.map(({ target }) => target),
    files: Object.values(data.files).flatMap((files) => files.map(({ path }) => path)),
  };
}

describe('original releases', () => {
  it('MMLU: lines of CSV without a header, with quotes and line breaks', async () => {
    put(
      'mmlu/data/test/anatomy_test.csv',
      '"What is ""it"",\nthen?",a bone,"skin, or hair",blood,nerve,B\nWhy?,1,2,3,4,D\n',
    );
    put('mmlu/data/dev/anatomy_dev.csv', 'How?,w,x,y,z,C\n');
    const { contexts, targets, files } = await built('mmlu_anatomy', 1);
    const begin =
      'The following are multiple choice questions (with answers) about anatomy.\n\nHow?\nA. w\nB. x\nC. y\nD. z\nAnswer: C\n\n';
    expect(contexts[0]).toBe(`${begin}What is "it",\nthen?\nA. a bone\nB. skin, or hair\nC. blood\nD. nerve\nAnswer:`);
    expect(targets).toEqual([1, 3]);
    expect(files).toEqual(['mmlu/data/test/anatomy_test.csv', 'mmlu/data/dev/anatomy_dev.csv']);
    put('mmlu/data/test/virology_test.csv', 'Why?,1,2,3,4\n');
    await expect(built('mmlu_virology')).rejects.toThrow(
      "mmlu_virology, document 1: the line has 5 fields, the last '4'; expected a question, four choices and the letter of the answer.",
    );
  });

  it('PIQA: labels in a file of their own', async () => {
    const row = (goal: string) => ({ goal, sol1: 'cut it', sol2: 'burn it' });
    put('piqa/physicaliqa/valid.jsonl', lines(row('one'), row('two')));
    put('piqa/physicaliqa/valid-labels.lst', '1\n0\n');
    const { targets, files } = await built('piqa');
    expect(targets).toEqual([1, 0]);
    expect(files).toEqual(['piqa/physicaliqa/valid.jsonl', 'piqa/physicaliqa/valid-labels.lst']);
    put('piqa/physicaliqa/valid-labels.lst', '1\n');
    await expect(built('piqa')).rejects.toThrow(/valid-labels\.lst has 1 labels for 2 rows\.$/);
  });

  it('SciQ, GSM8K: JSON and lines of JSON in folders of the archive', async () => {
    const question = { question: 'Why?', distractor1: 'a', distractor2: 'b', distractor3: 'c', correct_answer: 'd' };
    put('sciq/SciQ dataset-2 3/test.json', JSON.stringify([{ ...question, support: 'So.' }]));
    expect((await built('sciq')).contexts).toEqual(['So.\nQuestion: Why?\nAnswer:']);
    put('gsm8k/grade_school_math/data/test.jsonl', lines({ question: 'How many?', answer: '#### 4' }));
    expect((await built('gsm8k')).contexts).toEqual(['Question: How many?\nAnswer:']);
  });

  it('MATH: a file for each problem, by subject', async () => {
    const problem = (text: string) =>
      JSON.stringify({ problem: text, level: 'Level 1', type: 'Algebra', solution: '$\\boxed{2}$' });
    put('hendrycks_math/MATH/test/algebra/1.json', problem('one'));
    put('hendrycks_math/MATH/test/algebra/10.json', problem('ten'));
    put('hendrycks_math/MATH/test/geometry/2.json', problem('two'));
    const { contexts, targets } = await built('minerva_math_algebra');
    expect(contexts).toEqual(['Problem:\none\n\nSolution:', 'Problem:\nten\n\nSolution:']);
    expect(targets).toEqual(['2', '2']);
  });

  it('a missing file is named with its columns, and where it is published', async () => {
    await expect(built('mmlu_astronomy')).rejects.toThrow(
      `mmlu_astronomy: the split 'test' of cais/mmlu (astronomy) is not under ${folder}; expected cais/mmlu/astronomy/test-*.parquet or .jsonl with the columns question, choices, answer, as published at https://huggingface.co/datasets/cais/mmlu, or test/astronomy_test.csv of the original release.`,
    );
  });
});
