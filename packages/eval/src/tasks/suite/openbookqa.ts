/** OpenBookQA: elementary facts put to use (Mihaylov et al. 2018). */
import { lstrip } from '../../python/text.js';
import { defineTask, type Row } from '../definition.js';
import { answerByLabel, labelledChoices, textOf } from '../rows.js';

export const openbookqa = defineTask({
  kind: 'multiple_choice',
  name: 'openbookqa',
  version: 1,
  dataset: { path: 'allenai/openbookqa', name: 'main' },
  split: 'test',
  columns: ['question_stem', 'choices', 'answerKey'],
  released: { test: ['**/Main/test.jsonl'], train: ['**/Main/train.jsonl'] },
  adapt: (row) => {
    const { question } = row;
    return typeof question === 'object' && question !== null
      ? { ...row, question_stem: (question as Row).stem, choices: (question as Row).choices }
      : row;
  },
  shots: { from: 'train', sampler: 'default' },
  text: (row) => textOf(row, 'question_stem'),
  choices: (row) => labelledChoices(row).text,
  gold: (row) => answerByLabel(row, lstrip(String(row.answerKey))),
  metrics: ['acc', 'acc_norm'],
});
