/** GSM8K: arithmetic told in words (Cobbe et al. 2021), and with the chains of thought of Wei et al. (2022). */
import { strip } from '../../python/text.js';
import { defineTask } from '../definition.js';
import { exactMatch } from '../exact_match.js';
import { regexFilter } from '../filters.js';
import { textOf } from '../rows.js';
import { chainsOfThought } from './gsm8k_shots.js';

const dataset = { path: 'openai/gsm8k', name: 'main' };
/** How answers are made alike before they are compared. */
export const gsm8kAnswers = { ignoreCase: true, ignored: [/,/g, /\$/g, /.*#### /gs, /\.(?=\n?$)/g] };
/** The last number; a match with several groups counts for its first that is not empty. */
const flexible = regexFilter('flexible-extract', /(-?[$0-9.,]{2,})|(-?[0-9]+)/g, -1);

export const gsm8k = defineTask({
  kind: 'generate_until',
  name: 'gsm8k',
  version: 3,
  dataset,
  split: 'test',
  columns: ['question', 'answer'],
  released: { test: ['**/data/test.jsonl'], train: ['**/data/train.jsonl'] },
  shots: { from: 'train', sampler: 'default', count: 5 },
  text: (row) => `Question: ${row.question}\nAnswer:`,
  target: (row) => textOf(row, 'answer'),
  settings: { until: ['Question:', '</s>', '<|im_end|>'], do_sample: false, temperature: 0 },
  filters: [regexFilter('strict-match', /#### (-?[0-9.,]+)/g), flexible],
  metrics: [exactMatch((row) => textOf(row, 'answer'), gsm8kAnswers)],
});

const finalNumber = (answer: string) => strip(answer.split('####').at(-1)!);

export const gsm8kCot = defineTask({
  ...gsm8k,
  name: 'gsm8k_cot',
  shots: { from: chainsOfThought, sampler: 'first_n', count: 8 },
  text: (row) => `Q: ${row.question}\nA:`,
  target: (row) => finalNumber(textOf(row, 'answer')),
  shotTarget: (row) => textOf(row, 'target'),
  settings: { until: ['Q:', '</s>', '<|im_end|>'], do_sample: false },
  // The last dot of the pattern is any character: "The answer is 18" at the very end gives 1.
  filters: [regexFilter('strict-match', /The answer is (-?[0-9.,]+)./g), flexible],
  metrics: [exactMatch((row) => finalNumber(textOf(row, 'answer')), gsm8kAnswers)],
});
