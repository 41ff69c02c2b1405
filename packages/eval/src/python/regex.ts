/** Regular expressions of Python's `re` as JavaScript's, where they differ: ends, dots, white space, names of groups. */
import { shown, UserError } from '@stickbreaking/base';
import { SPACE } from './text.js';

/**
 * @param where names the pattern in errors
 * @throws UserError where JavaScript has no such pattern
 */
export function pythonRegex(pattern: string, where: string): RegExp {
  const inline = /^\(\?([aimsux]+)\)/.exec(pattern);
  const given = inline?.[1] ?? '';
  const source = translated(pattern.slice(inline?.[0].length ?? 0), given);
  const flags = [...'ims'].filter((flag) => given.includes(flag)).join('');
  try {
    return new RegExp(source, `gu${flags}`);
  } catch {
    try {
      // Escapes of characters that need none, which the stricter syntax refuses.
      return new RegExp(source, `g${flags}`);
    } catch (error) {
      throw new UserError(
        `${where}: the pattern '${shown(pattern)}' cannot be read (${shown((error as Error).message)}).`,
      );
    }
  }
}

const CLASSES: Readonly<Record<string, [inside: string, outside: string]>> = {
  s: [SPACE, `[${SPACE}]`],
  S: [`^${SPACE}`, `[^${SPACE}]`],
};

function translated(pattern: string, flags: string): string {
  let source = '';
  let inClass = false;
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at]!;
    if (character === '\\') {
      const next = pattern[++at] ?? '';
      const known = CLASSES[next];
      if (known && !(inClass && next === 'S')) source += known[inClass ? 0 : 1];
      else if (next === 'A') source += '^';
      else if (next === 'Z') source += '$(?![\\s\\S])';
      else source += `\\${next}`;
    } else if (inClass) {
      if (character === ']') inClass = false;
      source += character;
    } else if (character === '[') {
      inClass = true;
      source += character;
    } else if (character === '.' && !flags.includes('s')) source += '[^\\n]';
    else if (character === '$' && !flags.includes('m')) source += '(?=\\n?$)';
    else if (pattern.startsWith('(?P<', at)) {
      source += '(?<';
      at += 3;
    } else source += character;
  }
  return source;
}
