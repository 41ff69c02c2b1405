/** RULER's thirteen tasks. */
import { writeCommonWords } from './common_words.js';
import type { RulerContext, RulerSample } from './context.js';
import { writeFrequentWords } from './frequent_words.js';
import { type NeedleTask, writeNeedles } from './niah.js';
import { writeQuestions } from './questions.js';
import { writeVariables } from './variable_tracking.js';

/** A task: how its texts are written, and how many tokens an answer may have. */
export interface RulerTask {
  name: string;
  answerTokens: number;
  /** An answer needs any of the outputs rather than all. */
  anyOutput: boolean;
  write(context: RulerContext): Promise<RulerSample[]>;
}

const one = { keys: 1, values: 1, queries: 1 };
const needles: Readonly<Record<string, NeedleTask>> = {
  niah_single_1: { haystack: 'noise', key: 'words', value: 'numbers', ...one },
  niah_single_2: { haystack: 'essay', key: 'words', value: 'numbers', ...one },
  niah_single_3: { haystack: 'essay', key: 'words', value: 'uuids', ...one },
  niah_multikey_1: { haystack: 'essay', key: 'words', value: 'numbers', ...one, keys: 4 },
  niah_multikey_2: { haystack: 'needle', key: 'words', value: 'numbers', ...one },
  niah_multikey_3: { haystack: 'needle', key: 'uuids', value: 'uuids', ...one },
  niah_multivalue: { haystack: 'essay', key: 'words', value: 'numbers', ...one, values: 4 },
  niah_multiquery: { haystack: 'essay', key: 'words', value: 'numbers', ...one, queries: 4 },
};

const needle = ([name, task]: [string, NeedleTask]): RulerTask => ({
  name,
  answerTokens: 128,
  anyOutput: false,
  write: (context) => writeNeedles(name, task, context),
});

/** By NVIDIA's names; the harness calls the last five ruler_vt, ruler_cwe, ruler_fwe, ruler_qa_squad and ruler_qa_hotpot. */
export const rulerTasks: readonly RulerTask[] = [
  ...Object.entries(needles).map(needle),
  { name: 'vt', answerTokens: 30, anyOutput: false, write: (context) => writeVariables('vt', context) },
  { name: 'cwe', answerTokens: 120, anyOutput: false, write: (context) => writeCommonWords('cwe', context) },
  { name: 'fwe', answerTokens: 50, anyOutput: false, write: writeFrequentWords },
  {
    name: 'qa_1',
    answerTokens: 32,
    anyOutput: true,
    write: (context) => writeQuestions('qa_1', context.materials.squad(), context),
  },
  {
    name: 'qa_2',
    answerTokens: 32,
    anyOutput: true,
    write: (context) => writeQuestions('qa_2', context.materials.hotpot(), context),
  },
];
