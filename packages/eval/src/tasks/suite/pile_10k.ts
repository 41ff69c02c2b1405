/** The first 10,000 documents of the Pile (Gao et al. 2020). */
import { defineTask } from '../definition.js';
import { textOf } from '../rows.js';

export const pile10k = defineTask({
  kind: 'loglikelihood_rolling',
  name: 'pile_10k',
  version: 1,
  dataset: { path: 'NeelNanda/pile-10k' },
  split: 'train',
  columns: ['text'],
  text: (row) => textOf(row, 'text'),
  original: (row) => textOf(row, 'text'),
});
