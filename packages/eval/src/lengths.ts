import { EXIT, shown, UserError } from '@stickbreaking/base';
import { LARGEST_INT } from '@stickbreaking/model';

const USAGE = { exitCode: EXIT.usage };

/**
 * Context lengths from text: `2048..65536` doubles from the first to the last, `1000,3000` is taken as it is.
 *
 * @param longest that a length may be
 * @throws UserError if it is neither
 */
export function parseLengths(text: string, option = '--lengths', longest = LARGEST_INT): number[] {
  const expected = 'expected a range such as 2048..65536, or a list such as 1000,3000';
  const range = /^(\d+)\.\.(\d+)$/.exec(text.trim());
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2])];
    checkLongest(last, longest, `${option} ${shown(text)}`);
    if (first < 1) throw new UserError(`${option} ${text}: a length must be at least 1; ${expected}.`, USAGE);
    if (last < first)
      throw new UserError(`${option} ${text} is not a range: it ends below its beginning; ${expected}.`, USAGE);
    const lengths = [];
    for (let length = first; length <= last; length *= 2) lengths.push(length);
    return lengths;
  }
  const lengths = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Number.NaN));
  if (lengths.some((length) => Number.isNaN(length) || length < 1)) {
    throw new UserError(`${option} ${shown(text)} cannot be read; ${expected}.`, USAGE);
  }
  checkLongest(Math.max(...lengths), longest, `${option} ${shown(text)}`);
  return lengths;
}

function checkLongest(length: number, longest: number, given: string): void {
  if (length > longest) throw new UserError(`${given}: a length is at most ${longest}.`, USAGE);
}
