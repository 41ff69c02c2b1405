/** HellaSwag: how a scene goes on (Zellers et al. 2019). */
import { capitalize, strip } from '../../python/text.js';
import { defineTask, type Row } from '../definition.js';
import { integerOf, textOf, textsOf } from '../rows.js';

export const hellaswag = defineTask({
  kind: 'multiple_choice',
  name: 'hellaswag',
  version: 1,
  dataset: { path: 'Rowan/hellaswag' },
  split: 'validation',
  columns: ['activity_label', 'ctx_a', 'ctx_b', 'endings', 'label'],
  released: { validation: ['**/hellaswag_val.jsonl'], train: ['**/hellaswag_train.jsonl'] },
  shots: { from: 'train', sampler: 'default', drawsOneMore: true },
  process: withQuery,
  text: (row) => textOf(row, 'query'),
  choices: (row) => textsOf(row, 'choices'),
  gold: (row) => integerOf(row, 'label'),
  metrics: ['acc', 'acc_norm'],
});

function withQuery(row: Row): Row {
  const scene = `${row.ctx_a} ${capitalize(textOf(row, 'ctx_b'))}`;
  return {
    ...row,
    query: cleaned(`${row.activity_label}: ${scene}`),
    choices: textsOf(row, 'endings').map(cleaned),
    gold: integerOf(row, 'label'),
  };
}

/** Takes out WikiHow's marks. */
function cleaned(text: string): string {
  return strip(text)
    .replaceAll(' [title]', '. ')
    .replace(/\[[^\n]*?\]/g, '')
    .replaceAll('  ', ' ');
}
