/** WikiText-2: perplexity of whole articles (Merity et al. 2016), a word being one of the text as published. */
import { detokenizeWikiText } from '@stickbreaking/data';
import { defineTask } from '../definition.js';
import { textOf } from '../rows.js';

export const wikitext = defineTask({
  kind: 'loglikelihood_rolling',
  name: 'wikitext',
  version: 2,
  dataset: { path: 'EleutherAI/wikitext_document_level', name: 'wikitext-2-raw-v1' },
  split: 'test',
  columns: ['page'],
  released: { test: ['**/wiki.test.raw'] },
  text: (row) => detokenizeWikiText(textOf(row, 'page')),
  original: (row) => textOf(row, 'page'),
});
