/** How answers are taken out of generated text: the harness's filters. */
import { strip } from '../python/text.js';
import type { AnswerFilter } from './definition.js';

/** The text as it is. */
export const wholeText: AnswerFilter = { name: 'none', apply: (text) => text };

/**
 * What a pattern finds, stripped, or the fallback. A match with several groups counts for the first that is not empty.
 *
 * @param pattern with the flag g
 * @param select which match is taken: 0 the first, −1 the last
 */
export function regexFilter(name: string, pattern: RegExp, select = 0, fallback = '[invalid]'): AnswerFilter {
  return {
    name,
    apply: (text) => {
      const match = [...text.matchAll(pattern)].at(select);
      if (!match) return fallback;
      const groups = match.slice(1);
      // A group that took no part in the match is an empty text in Python.
      const found = groups.length === 0 ? match[0] : (groups.find((group) => group) ?? '');
      return groups.length > 1 && found === '' ? fallback : strip(found);
    },
  };
}
