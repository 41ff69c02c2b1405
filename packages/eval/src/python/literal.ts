/** Python literals as data sets hold them in text: reading one (`ast.literal_eval`) and writing one (`repr`). */
import { shown, UserError } from '@stickbreaking/base';

/** What a literal holds: text, a number, true, false, null (`None`), a list or a dictionary. */
export type Literal = string | number | boolean | null | Literal[] | { [key: string]: Literal };

/**
 * Reads a literal of texts, numbers, lists, tuples and dictionaries.
 *
 * @param where names the text in errors
 * @throws UserError where it is none
 */
export function parseLiteral(text: string, where: string): Literal {
  const reader = new LiteralReader(text, where);
  const value = reader.value();
  reader.end();
  return value;
}

const escapes: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '\n': '',
};

const names: Readonly<Record<string, Literal>> = { None: null, True: true, False: false };

class LiteralReader {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly where: string,
  ) {}

  value(): Literal {
    this.skipSpace();
    const next = this.text[this.at];
    if (next === '[') return this.members(']');
    if (next === '(') return this.members(')');
    if (next === '{') return this.dictionary();
    if (next === '"' || next === "'") return this.strings();
    return this.word();
  }

  end(): void {
    this.skipSpace();
    if (this.at < this.text.length) throw this.fault('something follows the value');
  }

  private members(close: string): Literal[] {
    const members: Literal[] = [];
    this.at++;
    while (!this.takes(close)) {
      members.push(this.value());
      if (this.takes(close)) break;
      this.need(',');
    }
    return members;
  }

  private dictionary(): Literal {
    const entries: [string, Literal][] = [];
    this.at++;
    while (!this.takes('}')) {
      const key = String(this.value());
      this.need(':');
      entries.push([key, this.value()]);
      if (this.takes('}')) break;
      this.need(',');
    }
    return Object.fromEntries(entries);
  }

  /** Texts that follow each other are one. */
  private strings(): string {
    let whole = '';
    for (this.skipSpace(); /["']/.test(this.text[this.at] ?? ''); this.skipSpace()) whole += this.string();
    return whole;
  }

  private string(): string {
    const quote = this.text[this.at++]!;
    let value = '';
    for (;;) {
      const character = this.text[this.at++];
      if (character === undefined) throw this.fault('a text does not end');
      if (character === quote) return value;
      value += character === '\\' ? this.escape() : character;
    }
  }

  private escape(): string {
    const code = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3}))/.exec(
      this.text.slice(this.at, this.at + 9),
    );
    if (code) {
      this.at += code[0].length;
      const hexadecimal = code[1] ?? code[2] ?? code[3];
      return String.fromCodePoint(
        hexadecimal === undefined ? Number.parseInt(code[4]!, 8) : Number.parseInt(hexadecimal, 16),
      );
    }
    const character = this.text[this.at++] ?? '';
    return escapes[character] ?? `\\${character}`;
  }

  private word(): Literal {
    const [word = ''] = /^[-+.\w]+/.exec(this.text.slice(this.at, this.at + 64)) ?? [];
    this.at += word.length;
    if (Object.hasOwn(names, word)) return names[word]!;
    const number = Number(word.replaceAll('_', ''));
    if (word === '' || Number.isNaN(number)) throw this.fault('there is no value');
    return number;
  }

  private takes(character: string): boolean {
    this.skipSpace();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private need(character: string): void {
    if (!this.takes(character)) throw this.fault(`'${character}' is missing`);
  }

  private skipSpace(): void {
    while (/\s/.test(this.text[this.at] ?? '')) this.at++;
  }

  private fault(what: string): UserError {
    const near = shown(this.text.slice(Math.max(0, this.at - 10), this.at + 20));
    return new UserError(`${this.where} is no Python literal: ${what} at character ${this.at + 1} (near '${near}').`);
  }
}

/** `repr(text)` */
export function reprOf(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let written = '';
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (character === quote || character === '\\') written += `\\${character}`;
    else if (character === '\n') written += '\\n';
    else if (character === '\r') written += '\\r';
    else if (character === '\t') written += '\\t';
    else if (character !== ' ' && /[\p{C}\p{Z}]/u.test(character)) written += escaped(code);
    else written += character;
  }
  return quote + written + quote;
}

function escaped(code: number): string {
  const hexadecimal = code.toString(16);
  if (code < 0x100) return `\\x${hexadecimal.padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${hexadecimal.padStart(4, '0')}` : `\\U${hexadecimal.padStart(8, '0')}`;
}

/** `str(list)` of a list of texts. */
export function reprOfList(texts: readonly string[]): string {
  return `[${texts.map(reprOf).join(', ')}]`;
}
