/**
 * Answers of the MATH data set as Minerva compares them (Lewkowycz et al. 2022, appendix D): which part of a text is the
 * answer, and how it is made alike before it is compared.
 */
import { UserError } from '@stickbreaking/base';
import { isDigits, strip } from '../python/text.js';

export const INVALID_ANSWER = '[invalidanswer]';

/** What a generated text gives as its answer, or `[invalidanswer]`. */
export function answerIn(text: string): string {
  const found = /Final Answer: The final answer is([^\n]*?)[^\n] I hope it is correct[^\n]/.exec(
    `${text}I hope it is correct.`,
  );
  return found ? strip(found[1]!) : INVALID_ANSWER;
}

/** The last `\boxed{…}` of a solution, or `\boxed …`, or `\fbox{…}`; undefined where it has none that is closed. */
export function lastBoxed(text: string): string | undefined {
  const open = text.lastIndexOf('\\boxed ');
  if (open >= 0) return `\\boxed ${text.slice(open + 7).split('$')[0]}`;
  const last = text.lastIndexOf('\\boxed');
  const begin = last >= 0 ? last : text.lastIndexOf('\\fbox');
  if (begin < 0) return undefined;
  let depth = 0;
  for (let at = begin; at < text.length; at++) {
    if (text[at] === '{') depth++;
    if (text[at] === '}' && --depth === 0) return text.slice(begin, at + 1);
  }
  return undefined;
}

/**
 * What stands in the box.
 *
 * @throws UserError where there is none
 */
export function goldAnswer(solution: string): string {
  const boxed = lastBoxed(solution);
  if (boxed?.startsWith('\\boxed ')) return boxed.slice(7);
  if (boxed?.startsWith('\\boxed{')) return boxed.slice(7, -1);
  throw new UserError('the solution has no answer in a \\boxed{…}.');
}

/** One after the other; they reach inside of words. */
const REPLACED: readonly (readonly [string, string])[] = [
  ['an ', ''],
  ['a ', ''],
  ['.$', '$'],
  ['\\$', ''],
  ['\\ ', ''],
  [' ', ''],
  ['mbox', 'text'],
  [',\\text{and}', ','],
  ['\\text{and}', ','],
  ['\\text{m}', '\\text{}'],
];
const REMOVED = [
  ...['square', 'ways', 'integers', 'dollars', 'mph', 'inches', 'ft', 'hours', 'km', 'units', '\\ldots', 'sue'],
  ...['points', 'feet', 'minutes', 'digits', 'cents', 'degrees', 'cm', 'gm', 'pounds', 'meters', 'meals', 'edges'],
  ...['students', 'childrentickets', 'multiples', '\\text{s}', '\\text{.}', '\\text{\ns}', '\\text{}^2'],
  ...[
    '\\text{}^3',
    '\\text{\n}',
    '\\text{}',
    '\\mathrm{th}',
    '^\\circ',
    '^{\\circ}',
    '\\;',
    ',\\!',
    '{,}',
    '"',
    '\\dots',
  ],
];

/** An answer to MATH made alike, as Minerva does it: units, words, spaces and dollar signs are dropped. */
export function normaliseAnswer(answer: string): string {
  let text = answer.split('=').at(-1)!;
  for (const [before, after] of REPLACED) text = text.replaceAll(before, after);
  for (const removed of REMOVED) text = text.replaceAll(removed, '');
  text = text
    .replace(/([^\n]*?)\$([^\n]*?)\$([^\n]*)/g, '$$$2$$')
    .replace(/\\text\{([^\n]*?)\}/g, '$1')
    .replace(/\\textbf\{([^\n]*?)\}/g, '$1')
    .replace(/\\overline\{([^\n]*?)\}/g, '$1')
    .replace(/\\boxed\{([^\n]*)\}/g, '$1')
    .replace(/frac([^{])([^\n])/gu, 'frac{$1}{$2}')
    .replace(/sqrt([^{])/gu, 'sqrt{$1}')
    .replaceAll('$', '');
  return isDigits(text.replaceAll(',', '')) ? text.replaceAll(',', '') : text;
}
