/** Python's methods on text where JavaScript's differ: what is white space, a digit, a capital, a character. */

/** Python's white space, for a class of a regular expression (`str.isspace`, `\s` of `re`). */
export const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const leading = new RegExp(`^[${SPACE}]+`);
const isSpace = new RegExp(`[${SPACE}]`);
const spaces = new RegExp(`[${SPACE}]+`);

/** `str.lstrip()` */
export function lstrip(text: string): string {
  return text.replace(leading, '');
}

/** `str.rstrip()` */
export function rstrip(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace.test(text[end - 1]!)) end--;
  return text.slice(0, end);
}

/** `str.strip()` */
export function strip(text: string): string {
  return lstrip(rstrip(text));
}

/** `str.split()`: the words between white space, none of them empty. */
export function words(text: string): string[] {
  return text.split(spaces).filter((word) => word !== '');
}

/** `len(re.split(r"\s+", text))`: white space at an end counts for a word. */
export function countPieces(text: string): number {
  return text.split(spaces).length;
}

/** `len(text)`: characters, not UTF-16 units. */
export function length(text: string): number {
  let count = text.length;
  for (let i = 1; i < text.length; i++) {
    if ((text.charCodeAt(i) & 0xfc00) === 0xdc00 && (text.charCodeAt(i - 1) & 0xfc00) === 0xd800) count--;
  }
  return count;
}

/** Characters whose title case is not their upper case begin with a capital and go on small. */
const titles: Readonly<Record<string, string>> = {
  ß: 'Ss',
  ﬀ: 'Ff',
  ﬁ: 'Fi',
  ﬂ: 'Fl',
  ﬃ: 'Ffi',
  ﬄ: 'Ffl',
  ﬅ: 'St',
  ﬆ: 'St',
  ǆ: 'ǅ',
  Ǆ: 'ǅ',
  ǅ: 'ǅ',
  ǉ: 'ǈ',
  Ǉ: 'ǈ',
  ǈ: 'ǈ',
  ǌ: 'ǋ',
  Ǌ: 'ǋ',
  ǋ: 'ǋ',
  ǳ: 'ǲ',
  Ǳ: 'ǲ',
  ǲ: 'ǲ',
};

/** `str.capitalize()`: the first character in title case, all others small. */
export function capitalize(text: string): string {
  const [first] = text;
  if (first === undefined) return '';
  return (titles[first] ?? first.toUpperCase()) + text.slice(first.length).toLowerCase();
}

/** Digits that are no decimal digits: superscripts, circled ones and the like (Unicode's Numeric_Type=Digit). */
const OTHER_DIGITS =
  '\\u00b2\\u00b3\\u00b9\\u1369-\\u1371\\u19da\\u2070\\u2074-\\u2079\\u2080-\\u2089\\u2460-\\u2468\\u2474-\\u247c\\u2488-\\u2490' +
  '\\u24ea\\u24f5-\\u24fd\\u24ff\\u2776-\\u277e\\u2780-\\u2788\\u278a-\\u2792\\u{10a40}-\\u{10a43}\\u{10e60}-\\u{10e68}\\u{11052}-\\u{1105a}\\u{1f100}-\\u{1f10a}';
const digits = new RegExp(`^[\\p{Nd}${OTHER_DIGITS}]+$`, 'u');

/** `str.isdigit()` */
export function isDigits(text: string): boolean {
  return digits.test(text);
}

/** A float as Python prints it: `-3.0`, `1e-05`, `1e+16`. */
export function floatText(value: number): string {
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  const power = Number(exponent);
  if (value !== 0 && (power < -4 || power >= 16)) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  const plain = power < 0 ? value.toFixed(Math.max(0, digits.replace(/^-?\d\.?/, '').length - power)) : `${value}`;
  const signed = Object.is(value, -0) ? '-0' : plain;
  return signed.includes('.') ? signed : `${signed}.0`;
}
