/** Nobody reads further. */
const LONGEST = 2000;
const LONGEST_WORD = 300;

/**
 * A message as one line that does a terminal no harm: control characters are shown escaped, and what runs on without a
 * space, or beyond all measure, is cut.
 */
export function oneLine(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to be escaped
  const safe = message.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, escaped);
  const words = safe.replace(new RegExp(`(\\S{${LONGEST_WORD}})\\S+`, 'g'), '$1…');
  return words.length > LONGEST ? `${words.slice(0, LONGEST)}…` : words;
}

const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  return named[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
