/** MATH: competition mathematics (Hendrycks et al. 2021), asked and scored as for Minerva (Lewkowycz et al. 2022). */
import { compareLatex, type Equivalence } from '../../math/equivalence.js';
import { answerIn, goldAnswer, normaliseAnswer } from '../../math/minerva_answer.js';
import { type DatasetName, defineTask, type GroupDefinition, type Row, type TaskDefinition } from '../definition.js';
import { wholeText } from '../filters.js';
import { textOf } from '../rows.js';
import { minervaShots } from './minerva_shots.js';

/** The harness's names of the parts, and those of the data set. */
const parts = {
  minerva_math_algebra: 'algebra',
  minerva_math_counting_and_prob: 'counting_and_probability',
  minerva_math_geometry: 'geometry',
  minerva_math_intermediate_algebra: 'intermediate_algebra',
  minerva_math_num_theory: 'number_theory',
  minerva_math_prealgebra: 'prealgebra',
  minerva_math_precalc: 'precalculus',
} as const;

/** How answers of MATH are compared. */
export interface MinervaOptions {
  version: number;
  /** Answers that are the same text are right, also where sympy cannot read them (the harness since September 2026). */
  equalStrings: boolean;
}

function minerva(name: string, dataset: DatasetName, { version, equalStrings }: MinervaOptions): TaskDefinition {
  const compared = (text: string, row: Row): Equivalence => {
    const [answer, gold] = [normaliseAnswer(answerIn(text)), textOf(row, 'answer')];
    return equalStrings && answer !== '' && answer === gold ? 'equal' : compareLatex(answer, gold);
  };
  return defineTask({
    kind: 'generate_until',
    name,
    version,
    dataset,
    split: 'test',
    columns: ['problem', 'solution'],
    released: { test: [dataset.name === undefined ? '**/test.jsonl' : `**/test/${dataset.name}/*.json`] },
    process: (row) => ({ ...row, answer: normaliseAnswer(goldAnswer(textOf(row, 'solution'))) }),
    shots: { from: minervaShots, sampler: 'first_n', count: 4 },
    text: (row) => `Problem:\n${row.problem}\n\nSolution:`,
    target: (row) => textOf(row, 'answer'),
    shotTarget: (row) => textOf(row, 'solution'),
    settings: { until: ['Problem:'], do_sample: false, temperature: 0 },
    filters: [wholeText],
    metrics: [
      {
        name: 'exact_match',
        higherIsBetter: true,
        score: (text, row) => (compared(text, row) === 'equal' ? 1 : 0),
      },
    ],
    remark: (text, row) => (compared(text, row) === 'undecided' ? 'undecided' : undefined),
  });
}

export function minervaTasks(options: MinervaOptions): TaskDefinition[] {
  const subjects = Object.entries(parts).map(([name, part]) =>
    minerva(name, { path: 'EleutherAI/hendrycks_math', name: part }, options),
  );
  return [...subjects, minerva('minerva_math500', { path: 'HuggingFaceH4/MATH-500' }, options)];
}

export const minervaGroup: GroupDefinition = {
  name: 'minerva_math',
  version: 1,
  members: Object.keys(parts),
  aggregate: [{ metric: 'exact_match', filters: ['none'], weightBySize: true }],
};
