/** SciQ: questions about science with a text in support (Welbl et al. 2017). */
import { lstrip } from '../../python/text.js';
import { defineTask } from '../definition.js';
import { textOf } from '../rows.js';

export const sciq = defineTask({
  kind: 'multiple_choice',
  name: 'sciq',
  version: 1,
  dataset: { path: 'allenai/sciq' },
  split: 'test',
  columns: ['question', 'distractor1', 'distractor2', 'distractor3', 'correct_answer', 'support'],
  released: { test: ['**/test.json'], train: ['**/train.json'] },
  shots: { from: 'train', sampler: 'default' },
  text: (row) => `${lstrip(textOf(row, 'support'))}\nQuestion: ${row.question}\nAnswer:`,
  choices: (row) =>
    ['distractor1', 'distractor2', 'distractor3', 'correct_answer'].map((column) => textOf(row, column)),
  gold: () => 3,
  metrics: ['acc', 'acc_norm'],
});
