/** Whether an answer is the reference, both made alike first: the `exact_match` of Hugging Face's evaluate. */
import type { GenerationMetric, Row } from './definition.js';

/** What is taken out of both texts, or made alike, before they are compared; by default nothing. */
export interface ExactMatchOptions {
  ignoreCase?: boolean;
  /** ASCII punctuation */
  ignorePunctuation?: boolean;
  ignoreNumbers?: boolean;
  /** Patterns with the flag g whose matches are taken out, one after the other. */
  ignored?: readonly RegExp[];
}

const PUNCTUATION = /[!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]/g;

export function equalWithout(answer: string, reference: string, options: ExactMatchOptions = {}): boolean {
  const made = (text: string) => {
    let left = (options.ignored ?? []).reduce((rest, pattern) => rest.replace(pattern, ''), text);
    if (options.ignoreCase) left = left.toLowerCase();
    if (options.ignorePunctuation) left = left.replace(PUNCTUATION, '');
    if (options.ignoreNumbers) left = left.replace(/[0-9]/g, '');
    return left;
  };
  return made(answer) === made(reference);
}

/** The metric: 1 where the answer is the reference. */
export function exactMatch(reference: (row: Row) => string, options: ExactMatchOptions): GenerationMetric {
  return {
    name: 'exact_match',
    higherIsBetter: true,
    score: (answer, row) => (equalWithout(answer, reference(row), options) ? 1 : 0),
  };
}
