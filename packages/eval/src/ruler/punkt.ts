/**
 * English text cut into sentences as NLTK's Punkt cuts it (Kiss and Strunk 2006), which RULER hides its needles between.
 * The model's parameters are NLTK's `punkt_tab/english`, which users fetch themselves.
 */
import { SPACE } from '../python/text.js';

/** What the model has learned of a language. */
export interface PunktParameters {
  abbreviations: ReadonlySet<string>;
  /** Pairs of words, joined by a tab. */
  collocations: ReadonlySet<string>;
  sentenceStarters: ReadonlySet<string>;
  /** Flags by word: how it was seen written. */
  orthography: ReadonlyMap<string, number>;
}

/** Seen with a capital inside of a sentence; seen with a capital; seen small at its beginning; seen small. */
const [MIDDLE_CAPITAL, CAPITAL, BEGIN_SMALL, SMALL] = [4, 14, 16, 112];

const NON_WORD = '[)";}\\]*:@\'({\\[!?]';
const MULTIPLE = `(?:-{2,}|\\.{2,}|(?:\\.[${SPACE}]){2,}\\.)`;
const END = new RegExp(`[.?!](?=(?<after>${NON_WORD}|[${SPACE}]+(?<next>[^${SPACE}]+)))`, 'g');
const WORD = new RegExp(
  `${MULTIPLE}|(?=[^("\`{\\[:;&#*@)}\\]\\-,])[^${SPACE}]+?(?=[${SPACE}]|$|${NON_WORD}|${MULTIPLE}|,(?=$|[${SPACE}]|${NON_WORD}|${MULTIPLE}))|[^${SPACE}]`,
  'g',
);
/** Quotes and brackets that belong to the sentence before them. */
const CLOSING = new RegExp(`^["')\\]}]+?(?:[${SPACE}]+|(?=--)|$)`, 'm');
const NUMBER = /^-?[.,]?\p{Nd}[\p{Nd},.-]*\.?$/u;
const INITIAL = /^[\p{L}_]\.$/u;

/** A cutter of English text. */
export class Punkt {
  constructor(private readonly parameters: PunktParameters) {}

  /** The sentences of a text, without the white space between them. */
  sentences(text: string): string[] {
    return this.realigned(text, this.breaks(text)).map(([begin, end]) => text.slice(begin, end));
  }

  /** Where sentences begin and end, before quotes are given to the sentence before them. */
  private breaks(text: string): [number, number][] {
    const found: [number, number][] = [];
    let begin = 0;
    for (const { end, next, context } of contexts(text)) {
      if (!this.hasBreak(context)) continue;
      found.push([begin, end]);
      begin = next ?? end;
    }
    found.push([begin, text.replace(new RegExp(`[${SPACE}]+$`), '').length]);
    return found;
  }

  private realigned(text: string, found: readonly [number, number][]): [number, number][] {
    const result: [number, number][] = [];
    let shift = 0;
    for (const [i, [start, end]] of found.entries()) {
      const begin = start + shift;
      const following = found[i + 1];
      const closing = following && CLOSING.exec(text.slice(...following));
      if (closing) {
        result.push([begin, following[0] + closing[0].trimEnd().length]);
        shift = closing[0].length;
        continue;
      }
      shift = 0;
      if (end > begin) result.push([begin, end]);
    }
    return result;
  }

  /** Whether a sentence ends in a text before its last word. */
  private hasBreak(text: string): boolean {
    const tokens = text
      .split('\n')
      .flatMap((line) => (line.trim() === '' ? [] : (line.match(WORD) ?? [])))
      .map(tokenOf);
    for (const token of tokens) this.firstPass(token);
    for (const [i, token] of tokens.entries()) this.secondPass(token, tokens[i + 1]);
    return tokens.slice(0, -1).some((token) => token.breaks);
  }

  private firstPass(token: Token): void {
    const { text } = token;
    if (text === '.' || text === '?' || text === '!') token.breaks = true;
    else if (/^\.\.+$/.test(text)) token.ellipsis = true;
    else if (text.endsWith('.') && !text.endsWith('..')) {
      const word = text.slice(0, -1).toLowerCase();
      const { abbreviations } = this.parameters;
      if (abbreviations.has(word) || abbreviations.has(word.split('-').at(-1)!)) token.abbreviation = true;
      else token.breaks = true;
    }
  }

  private secondPass(token: Token, next: Token | undefined): void {
    if (!next || !token.text.endsWith('.')) return;
    const type = withoutPeriod(token.type);
    const nextType = next.breaks ? withoutPeriod(next.type) : next.type;
    const isInitial = INITIAL.test(token.text);
    const { collocations, sentenceStarters, orthography } = this.parameters;
    if (collocations.has(`${type}\t${nextType}`)) {
      token.breaks = false;
      token.abbreviation = true;
      return;
    }
    if ((token.abbreviation || token.ellipsis) && !isInitial) {
      if (this.startsSentence(next, nextType) === true || (startsUpper(next.text) && sentenceStarters.has(nextType))) {
        token.breaks = true;
        return;
      }
    }
    if (!isInitial && type !== '##number##') return;
    const starts = this.startsSentence(next, nextType);
    const neverSmall = ((orthography.get(nextType) ?? 0) & SMALL) === 0;
    if (starts === false || (starts === undefined && isInitial && startsUpper(next.text) && neverSmall)) {
      token.breaks = false;
      token.abbreviation = true;
    }
  }

  /** Whether the way a word is written says that it begins a sentence; undefined where it does not say. */
  private startsSentence({ text }: Token, type: string): boolean | undefined {
    if (';:,.!?'.includes(text) && text.length === 1) return false;
    const seen = this.parameters.orthography.get(type) ?? 0;
    if (startsUpper(text) && seen & SMALL && !(seen & MIDDLE_CAPITAL)) return true;
    if (startsLower(text) && (seen & CAPITAL || !(seen & BEGIN_SMALL))) return false;
    return undefined;
  }
}

interface Token {
  text: string;
  type: string;
  breaks: boolean;
  abbreviation: boolean;
  ellipsis: boolean;
}

function tokenOf(text: string): Token {
  const small = text.toLowerCase();
  const type = NUMBER.test(small) ? '##number##' : small;
  return { text, type, breaks: false, abbreviation: false, ellipsis: false };
}

function withoutPeriod(type: string): string {
  return type.length > 1 && type.endsWith('.') ? type.slice(0, -1) : type;
}

const startsUpper = (text: string) => /^\p{Lu}/u.test(text);
const startsLower = (text: string) => /^\p{Ll}/u.test(text);

interface PossibleEnd {
  /** After the mark that may end a sentence. */
  end: number;
  /** Where the next word begins, if white space stands between. */
  next: number | undefined;
  /** The word before, the mark, and what follows. */
  context: string;
}

/** Where a sentence may end. Of marks in one word the last counts. */
function* contexts(text: string): Generator<PossibleEnd> {
  let word = { begin: 0, end: 0 };
  let last: PossibleEnd | undefined;
  const isSpace = /[\t\n\r\v\f ]/;
  for (const match of text.matchAll(END)) {
    const before = text.slice(word.end, match.index);
    let space = before.length - 1;
    while (space > 0 && !isSpace.test(before[space]!)) space--;
    const begin = space > 0 ? word.end + space + 1 : word.begin;
    if (last && word.end <= begin) yield last;
    word = { begin, end: match.index };
    const { after, next } = match.groups!;
    const end = match.index + 1;
    last = {
      end,
      next: next === undefined ? undefined : end + after!.length - next.length,
      context: text.slice(begin, end) + after!,
    };
  }
  if (last) yield last;
}
