/** WinoGrande: what a pronoun stands for (Sakaguchi et al. 2019); the same ending is scored after each option. */
import { strip } from '../../python/text.js';
import { defineTask, type Row } from '../definition.js';
import { integerOf, textOf } from '../rows.js';

export const winogrande = defineTask({
  kind: 'multiple_context',
  name: 'winogrande',
  version: 1,
  dataset: { path: 'allenai/winogrande', name: 'winogrande_xl' },
  split: 'validation',
  columns: ['sentence', 'option1', 'option2', 'answer'],
  released: { validation: ['**/dev.jsonl'], train: ['**/train_xl.jsonl'] },
  shots: { from: 'train', sampler: 'default', drawsOneMore: true },
  contexts: (row) => ['option1', 'option2'].map((option) => before(row) + textOf(row, option)),
  continuation: (row) => strip(textOf(row, 'sentence').slice(before(row).length + 1)),
  gold: (row) => integerOf(row, 'answer') - 1,
  metrics: ['acc'],
});

/** The sentence up to its gap. */
function before(row: Row): string {
  const sentence = textOf(row, 'sentence');
  return sentence.slice(0, sentence.indexOf('_'));
}
