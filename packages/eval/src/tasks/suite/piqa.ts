/** PIQA: how things are done in the physical world (Bisk et al. 2020). */
import { defineTask } from '../definition.js';
import { integerOf, textOf } from '../rows.js';

export const piqa = defineTask({
  kind: 'multiple_choice',
  name: 'piqa',
  version: 1,
  dataset: { path: 'baber/piqa' },
  split: 'validation',
  columns: ['goal', 'sol1', 'sol2', 'label'],
  // With valid-labels.lst beside it.
  released: { validation: ['**/valid.jsonl'], train: ['**/train.jsonl'] },
  shots: { from: 'train', sampler: 'default', drawsOneMore: true },
  text: (row) => `Question: ${row.goal}\nAnswer:`,
  choices: (row) => [textOf(row, 'sol1'), textOf(row, 'sol2')],
  gold: (row) => integerOf(row, 'label'),
  metrics: ['acc', 'acc_norm'],
});
