// What came of a command on a mutated input.
import { EXIT } from '@stickbreaking/base';

/**
 * - `right`: it did its work, and nothing shows that the mutation bent it
 * - `refusal`: one clear line and an exit code other than 0
 * - `internal error`: a stack trace, or a message that speaks of the program instead of the input
 * - `hang`: no end within the time, or memory without end
 * - `crash`: the process was ended by a signal, or left without its exit code
 * - `silent acceptance`: it ended well although what it gave is not what the input says
 */
export const classes = ['right', 'refusal', 'internal error', 'hang', 'crash', 'silent acceptance'];
export const faults = classes.slice(2);

const MOST_CHARACTERS = 1500;
const program =
  /TypeError|RangeError|ReferenceError|SyntaxError: |Cannot read propert|is not a function|is not iterable|Cannot destructure|\[object |node:internal|undefined \(|ERR_[A-Z]{3}|panicked at/;

/**
 * @param ended `{ code, stdout, stderr }`, or `{ error }` where the command threw
 * @param accepted what to say of an exit code of 0: undefined where it is right, or what is wrong
 */
export function judge(ended, accepted) {
  const { code, stderr, error } = ended;
  if (error)
    return {
      class: 'internal error',
      detail: String(error.stack ?? error)
        .split('\n')
        .slice(0, 4)
        .join(' | '),
    };
  if (/\n\s+at .+:\d+/.test(stderr)) return { class: 'internal error', detail: firstLines(stderr) };
  if (code === 0) {
    const wrong = accepted?.(ended);
    return wrong ? { class: 'silent acceptance', detail: wrong } : { class: 'right' };
  }
  const line = (stderr || unmet(ended)).trimEnd().split('\n').at(-1) ?? '';
  if (line.trim() === '') return { class: 'internal error', detail: `exit code ${code} and no message` };
  if (line.length > MOST_CHARACTERS) return { class: 'internal error', detail: `a line of ${line.length} characters` };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u0008\u000b-\u001f\u007f]/.test(line))
    return { class: 'internal error', detail: `control characters in: ${JSON.stringify(line)}` };
  if (program.test(line)) return { class: 'internal error', detail: line };
  return { class: 'refusal', detail: line };
}

/** A plan says on standard output what it needs that is not there. */
function unmet({ code, stdout }) {
  if (code !== EXIT.unmet) return '';
  return stdout.startsWith('{') ? JSON.parse(stdout).missing.join('\n') : stdout;
}

const firstLines = (text) => text.trim().split('\n').slice(-6, -1).join(' | ').slice(0, 600);
