// User text in messages.

const LONGEST = 200;

/** Text from outside as a message shows it: on one line, control characters escaped, cut at 200 characters. */
export function shown(text: string): string {
  const safe = escapeControl(text.slice(0, LONGEST));
  return text.length > LONGEST ? `${safe}…` : safe;
}

/** Nobody reads further. */
const LONGEST_LINE = 2000;
const LONGEST_WORD = 300;

/**
 * A message as one line that does a terminal no harm: control characters are shown escaped, and what runs on without a
 * space, or beyond all measure, is cut.
 */
export function oneLine(message: string): string {
  const words = escapeControl(message).replace(new RegExp(`(\\S{${LONGEST_WORD}})\\S+`, 'g'), '$1…');
  return words.length > LONGEST_LINE ? `${words.slice(0, LONGEST_LINE)}…` : words;
}

function escapeControl(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to be escaped
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/gu, escaped);
}

const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  return named[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
