/** OpenBookQA: elementary facts put to use (Mihaylov et al. 2018). */
import { lstrip } from '../../python/text.js';
import { defineTask } from '../definition.js';
import { answerByLabel, labelledChoices, textOf } from '../rows.js';

export const openbookqa = defineTask({
  kind: 'multiple_choice',
  name: 'openbookqa',
  version: 1,
  dataset: { path: 'allenai/openbookqa', name: 'main' },
  split: 'test',
  columns: ['question_stem', 'choices', 'answerKey'],
  shots: { from: 'train', sampler: 'default' },
  text: (row) => textOf(row, 'question_stem'),
  choices: (row) => labelledChoices(row).text,
  gold: (row) => answerByLabel(row, lstrip(String(row.answerKey))),
  metrics: ['acc', 'acc_norm'],
});
